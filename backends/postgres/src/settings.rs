//! The settings of the store's own connections.

use std::sync::Arc;
use std::time::Duration;

use steadfast_core::Record;

use crate::access::Access;
use crate::address::{Address, Pooler};
use crate::connection::{Binding, Login, Tls, TlsSettings};
use crate::error::SetupError;
use crate::hosts::{Hosts, Network, Terms};

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) tls: TlsSettings,
    pub(crate) binding: Binding,
    pub(crate) application_name: String,
    pub(crate) options: Option<String>,
    pub(crate) pooler: Option<Pooler>,
    pub(crate) listen_at: Option<String>,
    pub(crate) connect_timeout: Duration,
    pub(crate) network: Network,
    /// The highest number of connections.
    pub(crate) connections: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tls: TlsSettings::default(),
            binding: Binding::default(),
            application_name: format!("steadfast/{}", Record::FORMAT),
            options: None,
            pooler: None,
            listen_at: None,
            connect_timeout: Duration::from_secs(2),
            network: Network::default(),
            connections: 10,
        }
    }
}

impl Settings {
    /// Returns the hosts of the database at this address.
    pub(crate) fn hosts(&self, address: &str, timeout: Duration) -> Result<Hosts, SetupError> {
        self.hosts_behind(self.pooler, address, timeout)
    }

    /// Returns how listeners reach the database with these hosts.
    pub(crate) fn access(
        &self,
        hosts: &Arc<Hosts>,
        timeout: Duration,
    ) -> Result<Access, SetupError> {
        let (hosts, can_be_rung) = match &self.listen_at {
            Some(address) => (Arc::new(self.hosts_behind(None, address, timeout)?), true),
            None => (Arc::clone(hosts), self.pooler != Some(Pooler::Transaction)),
        };
        Ok(Access::Own { hosts, can_be_rung })
    }

    fn hosts_behind(
        &self,
        pooler: Option<Pooler>,
        address: &str,
        timeout: Duration,
    ) -> Result<Hosts, SetupError> {
        if !(1..=1_000).contains(&self.connections) || !is_in_bounds(self.connect_timeout) {
            return Err(SetupError::Bounds);
        }
        let Address { hosts, user, password, database, is_local } = Address::parse(address)?;
        let default = if is_local { Tls::Off } else { Tls::VerifyFull };
        let mode = self.tls.mode.unwrap_or(default);
        if mode != Tls::Off {
            // Checked here, so that an error names the file.
            self.tls.config(mode)?;
        }
        let login = Login {
            user,
            password,
            database,
            application_name: self.application_name.clone(),
            options: self.options.clone(),
            binding: self.binding,
        };
        let terms = Terms {
            login,
            mode,
            tls: self.tls.clone(),
            pooler,
            opens_within: self.connect_timeout,
            statement_timeout: timeout,
            network: self.network,
        };
        Ok(Hosts::new(hosts, terms))
    }
}

/// Returns true if a time limit can be set.
pub(crate) fn is_in_bounds(limit: Duration) -> bool {
    (Duration::from_millis(1)..=Duration::from_secs(60)).contains(&limit)
}
