//! The broker driven over its channels by a fake main and fake workers.

mod boundary;
mod certificates;
mod claims;
mod harness;
mod logins;
mod one_time_passwords;
mod repeated;
mod tunnels;
