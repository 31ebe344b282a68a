//! The data phase: a tunnel from CONNECT to its end (`specs/client.md` §12, §14).

mod bring_up;
mod datagram;
mod ending;
mod mtu;
mod reconnect;
mod roaming;
mod running;
mod setup;
mod sleep;
mod status;

pub(crate) use ending::Ending;

use std::sync::Arc;

use crate::connect::{ConnectFailure, Connector};
use crate::context::Context;
use crate::process::PidFile;
use running::Running;

/// Connects and carries packets until something ends the session. Returns the exit code.
pub(crate) fn run(
    context: &Arc<Context>,
    mut connector: Box<dyn Connector>,
    pid_file: Option<PidFile>,
) -> u8 {
    let ending = match connector.connect() {
        Ok(tunnel) => match Running::start(Arc::clone(context), connector, tunnel) {
            Ok(mut running) => running.run(pid_file),
            Err(error) => Ending::Setup(format!("Failed to start the tunnel: {error}")),
        },
        Err(failed) => {
            // No progress message: without time, and never in the system log.
            context.console.write("Creating SSL connection failed\n");
            match failed {
                ConnectFailure::Interrupted(_) => Ending::Cancelled,
                ConnectFailure::Rejected => Ending::CookieRejected,
                ConnectFailure::Other => Ending::ConnectFailed,
            }
        }
    };
    ending.report(&context.output)
}
