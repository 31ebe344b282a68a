//! The user's program that reports about this host (`--csd-wrapper`, `specs/globalprotect.md`
//! §10).

use std::path::Path;
use std::time::Duration;

use culvert_globalprotect::client::Gateway;
use culvert_vocab::TunnelConfig;

use crate::connect::ConnectFailure;
use crate::context::Context;
use crate::helper::{Helper, HelperError, HelperOutput};

/// How long a report may take.
const LIMIT: Duration = Duration::from_secs(60);

/// The report that the user's program writes.
///
/// # Errors
/// See [`ConnectFailure`]; the user has been told.
pub(super) fn report(
    context: &Context,
    wrapper: &Path,
    gateway: &Gateway,
    config: &TunnelConfig,
) -> Result<String, ConnectFailure> {
    let failed = |text: &str| {
        context.output.error(text);
        ConnectFailure::Other
    };
    let shown = wrapper.display();
    context
        .output
        .info(&format!("Trying to run HIP program '{shown}'"));
    let arguments = gateway.hip_script_arguments(config);
    let helper = Helper {
        program: wrapper,
        arguments: arguments
            .iter()
            .map(|argument| argument.expose().into())
            .collect(),
        environment: vec![("APP_VERSION", gateway.app_version.clone())],
        user: context.options.host_scan.user,
        output: HelperOutput::Taken,
        limit: LIMIT,
        foreign: false,
    };
    let finished = helper.run(&context.signals).map_err(|error| match error {
        HelperError::Interrupted(signal) => ConnectFailure::Interrupted(signal),
        other => failed(&other.to_string()),
    })?;
    match finished.status.code() {
        Some(0) => {}
        Some(code) => return Err(failed(&format!("HIP program '{shown}' returned error {code}"))),
        None => return Err(failed(&format!("HIP program '{shown}' exited abnormally"))),
    }
    String::from_utf8(finished.output)
        .map_err(|_| failed(&format!("The report of HIP program '{shown}' is no text")))
}
