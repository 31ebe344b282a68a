//! Examination of this host (`specs/anyconnect.md` §8).

use std::time::Duration;

use culvert_login::client::{HostScan, MessageLevel, Step};
use culvert_wire::http::Response;
use culvert_wire::url::{Redirect, ServerUrl};

use super::{Login, State, check_status, push};
use crate::client::host_scan::{HostScanRequest, Places};
use crate::client::login_steps::{HostScanRule, LoginError};

/// Time between looks at the wait page.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Looks at the wait page before the scan counts as failed.
const POLLS_MAX: u32 = 600;

/// A scan in progress.
#[derive(Debug, Clone)]
pub(super) struct Scan {
    request: HostScanRequest,
    places: Places,
    polls: u32,
}

impl Login {
    pub(super) fn begin_scan(&mut self, request: HostScanRequest) -> Result<Step, LoginError> {
        let places = request.places(&self.config.platform);
        let has_program = !places.program.is_empty();
        match self.config.host_scan {
            HostScanRule::Refuse if has_program => return Err(LoginError::HostScanProgram),
            HostScanRule::Refuse => return Err(LoginError::HostScan),
            HostScanRule::Program if !has_program => return Err(LoginError::HostScan),
            HostScanRule::Wrapper | HostScanRule::Program => {}
        }
        let program = places.program.clone();
        let scan = Scan {
            request,
            places,
            polls: 0,
        };
        if !has_program {
            return Ok(self.run_scan(scan, None));
        }
        let server = self.place(&program)?;
        self.state = State::ScanProgram(Box::new(scan));
        Ok(self.get(server))
    }

    pub(super) fn handle_scan_program(&mut self, scan: Scan, response: Response) -> Result<Step, LoginError> {
        match check_status(&response) {
            Ok(()) => {
                let text = format!(
                    "Fetched CSD stub for {} platform (size is {} bytes).",
                    self.config.platform.name(),
                    response.body.len()
                );
                push(&mut self.messages, MessageLevel::Info, text);
                Ok(self.run_scan(scan, Some(response.body)))
            }
            Err(error) if self.config.host_scan == HostScanRule::Wrapper => {
                let text = format!("The server's host scan program is not there: {error}");
                push(&mut self.messages, MessageLevel::Info, text);
                Ok(self.run_scan(scan, None))
            }
            Err(error) => Err(error),
        }
    }

    fn run_scan(&mut self, scan: Scan, program: Option<Vec<u8>>) -> Step {
        let scan_of = &scan.request;
        let step = Step::HostScan(HostScan {
            program,
            ticket: scan_of.ticket.clone(),
            token: scan_of.token.as_str().into(),
            group: self.group.clone().unwrap_or_default(),
            server: self.server.clone(),
            start: scan.places.start.clone(),
        });
        self.state = State::Scanning(Box::new(scan));
        step
    }

    /// See [`culvert_login::client::Login::handle_host_scan`].
    ///
    /// # Errors
    /// The login has failed.
    pub fn handle_host_scan(&mut self) -> Result<Step, LoginError> {
        let State::Scanning(scan) = std::mem::replace(&mut self.state, State::Idle) else {
            return Err(LoginError::OutOfTurn);
        };
        self.jar
            .set("sdesktop", &scan.request.token)
            .map_err(|_| LoginError::SetCookie)?;
        if scan.places.wait.is_empty() {
            return Ok(self.scanned(&scan));
        }
        self.look_at_wait_page(*scan)
    }

    fn look_at_wait_page(&mut self, mut scan: Scan) -> Result<Step, LoginError> {
        scan.polls += 1;
        if scan.polls > POLLS_MAX {
            return Err(LoginError::HostScanEndless);
        }
        let server = self.place(&scan.places.wait)?;
        self.state = State::ScanJudged(Box::new(scan));
        Ok(self.get(server))
    }

    /// The wait page: an HTML page that wants to be looked at again, or the end of the wait.
    pub(super) fn handle_wait_page(&mut self, scan: Scan, response: &Response) -> Result<Step, LoginError> {
        if !response.is_success() && response.headers.get("Location").is_some() {
            return Ok(self.scanned(&scan));
        }
        check_status(response)?;
        let page = String::from_utf8_lossy(&response.body);
        if page.trim_start().starts_with("<?xml") {
            return Ok(self.scanned(&scan));
        }
        if !page.to_ascii_lowercase().contains("http-equiv=\"refresh\"") {
            return Err(LoginError::Document("Unknown response from server".into()));
        }
        let text = format!(
            "Refreshing {} after 1 second...",
            scan.places.wait.trim_start_matches('/')
        );
        push(&mut self.messages, MessageLevel::Info, text);
        self.state = State::ScanPause(Box::new(scan));
        Ok(Step::Wait(POLL_INTERVAL))
    }

    /// See [`culvert_login::client::Login::handle_timeout`].
    ///
    /// # Errors
    /// The login has failed.
    pub fn handle_timeout(&mut self) -> Result<Step, LoginError> {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::ScanPause(scan) => self.look_at_wait_page(*scan),
            _ => Err(LoginError::OutOfTurn),
        }
    }

    /// Asks for the form again.
    fn scanned(&mut self, scan: &Scan) -> Step {
        self.scan_token = Some(scan.request.token.as_str().into());
        self.probes = 0;
        if self.xml {
            self.send_init(false)
        } else {
            self.send_legacy_probe(false)
        }
    }

    /// A place on this server; elsewhere the cookies have no business.
    pub(super) fn place(&self, uri: &str) -> Result<ServerUrl, LoginError> {
        match self.server.redirect(uri)? {
            Redirect::Local(server) => Ok(server),
            Redirect::NewHost(server) => Err(LoginError::Document(format!(
                "{server} is on another server than the login"
            ))),
        }
    }

    /// Fetches a place that is not the login's.
    pub(super) fn get(&self, server: ServerUrl) -> Step {
        self.exchange(&server, None, false)
    }
}
