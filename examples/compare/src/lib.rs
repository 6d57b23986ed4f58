#![doc = include_str!("../README.md")]

pub mod options;
pub mod strategy;
pub mod fault;

pub mod run;
pub mod contest;
pub mod service;
pub mod load;
pub mod progress;
pub mod parts;
pub mod random;

pub mod procfs;
pub mod sockets;
pub mod observe;
pub mod units;

pub mod records;
pub mod measures;
pub mod statistics;
pub mod repeats;
pub mod report;

pub mod model;
pub mod predict;
pub mod choose;

pub use run::run;
