//! `use-utmp`: sessions among those who are logged in (`who`, `last`).

use culvert_sys::utmp::Login;

use super::scripts::Subject;
use super::state::Server;

impl Server {
    /// Notes the beginning of a session, or its end.
    pub(crate) fn note_login(&mut self, subject: &Subject, begins: bool) {
        if !self.config.global.use_utmp {
            return;
        }
        let login = Login {
            line: subject.device.clone(),
            pid: i32::try_from(subject.id).unwrap_or_default(),
            user: subject.session.user.to_string(),
            host: subject.peer.ip(),
        };
        // The files may be locked by others.
        let written = tokio::task::spawn_blocking(move || {
            let written = if begins { login.begin() } else { login.end() };
            written.map_err(|error| format!("cannot note a login in utmp: {error}"))
        });
        self.detach(async move { written.await.unwrap_or_else(|error| Err(error.to_string())) });
    }
}
