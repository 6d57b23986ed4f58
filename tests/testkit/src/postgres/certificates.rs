//! Certificates for a server, and the authority that signs them.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::fresh_dir;

/// The files of a server's certificate, and of the authority that signed it.
pub struct Certificates {
    dir: PathBuf,
}

impl Certificates {
    /// A certificate for the host `name`, which the server may read.
    pub fn issue(name: &str) -> Self {
        let dir = fresh_dir();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&authority_key).unwrap();
        let issuer = Issuer::new(params, authority_key);
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = certificate.signed_by(&key, &issuer).unwrap();
        let owner = fs::metadata(&dir).unwrap();
        for (file, text) in [
            ("root.pem", authority.pem()),
            ("server.pem", certificate.pem()),
            ("server.key", key.serialize_pem()),
        ] {
            let path = dir.join(file);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
        }
        Self { dir }
    }

    /// The certificate of the authority.
    pub fn root(&self) -> PathBuf {
        self.dir.join("root.pem")
    }

    /// The settings of a server with this certificate.
    pub fn settings(&self) -> Vec<String> {
        let file = |name| self.dir.join(name).display().to_string();
        vec![
            "ssl=on".to_owned(),
            format!("ssl_cert_file={}", file("server.pem")),
            format!("ssl_key_file={}", file("server.key")),
        ]
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}
