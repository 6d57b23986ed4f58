//! The `SessionStore` traits of tower-sessions, one per version.

use std::error::Error as _;

use async_trait::async_trait;
use steadfast_core::Timestamp;
use time::OffsetDateTime;

use super::Bridge;
use super::id::Id;
use crate::error::Error;

/// Implements the `SessionStore` of one version: each version has a separate trait.
macro_rules! store_for {
    ($version:ident, $feature:literal) => {
        #[cfg(feature = $feature)]
        mod $version {
            use ::$version::SessionStore;
            use ::$version::session::{Id as SessionId, Record};
            use ::$version::session_store::{Error as Failure, Result};

            use super::*;

            #[cfg_attr(docsrs, doc(cfg(feature = $feature)))]
            #[async_trait]
            impl SessionStore for Bridge {
                async fn create(&self, record: &mut Record) -> Result<()> {
                    let expiry = timestamp(record.expiry_date);
                    let id = self.create_session(&mut record.data, expiry).await;
                    record.id = SessionId(id.map_err(failure)?.get());
                    Ok(())
                }

                async fn save(&self, record: &Record) -> Result<()> {
                    let (id, expiry) = (Id::new(record.id.0), timestamp(record.expiry_date));
                    self.save_session(id, &record.data, expiry).await.map_err(failure)
                }

                async fn load(&self, id: &SessionId) -> Result<Option<Record>> {
                    let id = Id::new(id.0);
                    let found = self.load_session(id).await.map_err(failure)?;
                    Ok(found.map(|(data, expiry)| Record {
                        id: SessionId(id.marked().get()),
                        data,
                        expiry_date: date(expiry),
                    }))
                }

                async fn delete(&self, id: &SessionId) -> Result<()> {
                    self.delete_session(Id::new(id.0)).await.map_err(failure)
                }
            }

            fn failure(error: Error) -> Failure {
                let text = with_causes(&error);
                match error {
                    Error::Encode { .. } | Error::Limit(_) | Error::Principal(_) => {
                        Failure::Encode(text)
                    }
                    Error::Decode { .. } => Failure::Decode(text),
                    _ => Failure::Backend(text),
                }
            }
        }
    };
}

store_for!(tower_sessions_core_0_14, "tower-sessions-0_14");
store_for!(tower_sessions_core_0_15, "tower-sessions-0_15");

/// The message of an error and of its causes: tower-sessions has room for a text only.
fn with_causes(error: &Error) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn timestamp(date: OffsetDateTime) -> Timestamp {
    date.to_utc().into()
}

fn date(at: Timestamp) -> OffsetDateTime {
    time::UtcDateTime::from(at).into()
}
