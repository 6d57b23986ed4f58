//! Errors of opening a store by its URL.

use std::path::PathBuf;

use steadfast_core::StoreError;

/// An error of opening a store by its URL.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// It is not a URL.
    #[error("the store's URL does not begin with a scheme such as \"memory:\"")]
    NoScheme,
    /// No store has this scheme.
    #[error("unknown scheme {scheme:?}; expected {}", listed(.known))]
    UnknownScheme {
        /// The scheme.
        scheme: String,
        /// The known schemes.
        known: Vec<&'static str>,
    },
    /// The store is not in this build.
    #[error("a store with the scheme {scheme:?} needs steadfast's feature {feature:?}")]
    MissingFeature {
        /// The scheme.
        scheme: &'static str,
        /// The cargo feature that adds it.
        feature: &'static str,
    },
    /// There is something between the scheme and the settings, and this store has no address.
    #[error("the store {scheme:?} has no address, only settings after a question mark")]
    Address {
        /// The scheme.
        scheme: String,
    },
    /// The address, between the scheme and the settings, does not have the form that this store expects.
    #[error("invalid address for the store {scheme:?}: expected {wants}")]
    Place {
        /// The scheme.
        scheme: String,
        /// The expected form.
        wants: &'static str,
    },
    /// The query is not made of percent-encoded `name=value` pairs.
    #[error(
        "the settings of the store {scheme:?} are not percent-encoded pairs name=value \
         (a ? before them, as in a password, is written %3F)"
    )]
    Encoding {
        /// The scheme.
        scheme: String,
    },
    /// The store has no such setting.
    #[error("the store {scheme:?} has no setting {name:?}; expected {}", listed(.known))]
    UnknownSetting {
        /// The scheme.
        scheme: String,
        /// The name.
        name: String,
        /// The known settings.
        known: Vec<&'static str>,
    },
    /// A setting is given twice.
    #[error("the setting {name:?} is given twice")]
    Repeated {
        /// The setting.
        name: String,
    },
    /// The value of a setting is invalid.
    #[error("invalid value for {name:?}: expected {wants}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// The expected form.
        wants: &'static str,
    },
    /// The store needs to know which node this is.
    #[error("the store {scheme:?} needs the label of this node")]
    NoNode {
        /// The scheme.
        scheme: String,
    },
    /// The file with the URL cannot be read.
    #[error("the file {path:?} with the store's URL cannot be read")]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file with the cluster's secret cannot be read.
    #[error("the file {path:?} with the cluster's secret cannot be read")]
    SecretFile {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The store cannot be set up.
    #[error("the store cannot be set up")]
    Setup(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The store does not answer.
    #[error("the store does not answer")]
    Unavailable(#[source] StoreError),
}

fn listed(names: &[&str]) -> String {
    match names {
        [] => "none".to_owned(),
        [one] => format!("{one:?}"),
        several => format!("one of {}", several.join(", ")),
    }
}
