//! What an administrator does with a server: new configurations, bans, a daemon, certificates.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bans;
mod certificates;
mod daemon;
mod log_texts;
mod reload;
mod side_by_side;

use std::net::IpAddr;

use culvert_lab::fixture::INNER_SERVER_V4;

fn inner_server() -> IpAddr {
    INNER_SERVER_V4.parse().unwrap()
}
