//! Certificates for servers.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use super::fresh_dir;

/// An authority, and a certificate of a server that it signed: `ca.pem`, `server.pem`, `key.pem`.
pub struct Certificates {
    dir: PathBuf,
}

impl Certificates {
    /// Makes a certificate for a server of this name.
    pub fn of(name: &str) -> Self {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // With the name of what it signs, it would pass for the same.
        authority.distinguished_name.push(DnType::CommonName, "authority");
        let authority =
            CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let server = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let server = server.signed_by(&key, &authority).unwrap();
        let dir = fresh_dir();
        for (file, content) in [
            ("ca.pem", authority.pem()),
            ("server.pem", server.pem()),
            ("key.pem", key.serialize_pem()),
        ] {
            std::fs::write(dir.join(file), content).unwrap();
        }
        Self { dir }
    }

    /// The directory with the files.
    pub fn dir(&self) -> String {
        self.dir.to_str().unwrap().to_owned()
    }

    /// The file with the authority.
    pub fn authority(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
