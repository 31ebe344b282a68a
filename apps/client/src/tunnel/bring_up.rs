//! From a connected tunnel to one that the host uses (`specs/client.md` §12.1).

use std::io;
use std::time::{Duration, Instant};

use culvert_sys::epoll::Interest;
use culvert_sys::mem;
use culvert_vocab::MTU_MIN_IPV6;

use super::ending::Ending;
use super::running::{PROGRAM_TOKEN, Running, SIGNAL_TOKEN};
use crate::process::{self, Background, PidFile};
use crate::signals::Signal;

/// How long the device waits for UDP, so that its MTU is final.
const SETTLE_MAX: Duration = Duration::from_secs(2);
/// The same for a tunnel that has nothing but UDP until UDP turns out not to work.
const SETTLE_MAX_DATAGRAM_ONLY: Duration = Duration::from_secs(60);

impl Running {
    /// Waits for UDP, tells the user, goes to the background, makes and configures the device,
    /// and becomes another user (`specs/client.md` §12.1).
    pub(super) fn bring_up(&mut self, pid_file: &mut Option<PidFile>) -> Result<(), Ending> {
        let limit = match self.is_datagram_only() {
            true => SETTLE_MAX_DATAGRAM_ONLY,
            false => SETTLE_MAX,
        };
        let settled_by = Instant::now() + limit;
        while !self.datagram.is_settled() && Instant::now() < settled_by {
            self.step(Some(settled_by))?;
        }
        if self.tunnel.config.ipv6.is_some() && self.tunnel.config.mtu.get() < MTU_MIN_IPV6 {
            let text = format!("MTU {} is too small for IPv6", self.tunnel.config.mtu.get());
            self.context.output.error(&text);
        }
        for line in self.summary() {
            self.context.output.info(&line);
        }
        if self.context.options.process.background {
            self.go_to_background(pid_file)?;
        }
        // Without logind the clock tells of sleeps, later.
        let _ = self.roaming.listen(&self.poller);
        if self.context.options.output.syslog {
            self.context.output.switch_to_syslog();
        }
        let (device, signal) = self.setup.bring_up(&self.tunnel).map_err(Ending::Setup)?;
        self.device_up = true;
        self.session
            .attach_device(device)
            .map_err(|error| Ending::Setup(format!("Failed to use the tun device: {error}")))?;
        if let Some(end) = self.setup.program_end() {
            self.poller
                .add(end, PROGRAM_TOKEN, Interest::READ)
                .map_err(|error| Ending::Setup(error.to_string()))?;
        }
        if let Some(user) = self.context.options.process.user {
            process::become_user(user)
                .map_err(|error| Ending::Setup(format!("Failed to become user {}: {error}", user.uid)))?;
        }
        // What the login needed, code of OpenSSL's size, is not needed again for hours.
        mem::trim();
        mem::forget_code();
        match signal {
            Some(Signal::Reconnect) => {
                self.tell_reconnect();
                self.reconnect()
            }
            signal => signal.and_then(Ending::of_signal).map_or(Ok(()), Err),
        }
    }

    fn go_to_background(&mut self, pid_file: &mut Option<PidFile>) -> Result<(), Ending> {
        let failed = |error: io::Error| Ending::Setup(format!("Failed to continue in background: {error}"));
        match process::go_to_background(pid_file.as_mut()).map_err(failed)? {
            Background::Parent(pid) => {
                self.context
                    .output
                    .info(&format!("Continuing in background; pid {pid}"));
                Err(Ending::InBackground)
            }
            Background::Child => {
                // Readiness of a signalfd is that of the process which registered it.
                self.poller.delete(&*self.context.signals).map_err(failed)?;
                self.poller
                    .add(&*self.context.signals, SIGNAL_TOKEN, Interest::READ)
                    .map_err(failed)
            }
        }
    }
}
