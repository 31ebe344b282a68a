//! The end of a login: the XML profile, if it has changed (`specs/anyconnect.md` §4.1).

use culvert_login::client::{LoggedIn, MessageLevel, Step};
use culvert_wire::http::Response;

use super::{Login, State, push};
use crate::client::login_steps::LoginError;
use crate::client::profile::{ProfileHash, ProfileOffer};

impl Login {
    /// Fetches the profile that the server offers, if the user keeps one and has another.
    pub(super) fn fetch_profile(&mut self, done: LoggedIn) -> Step {
        let cookie = self.jar.get("webvpnc");
        let offer = cookie
            .and_then(|cookie| ProfileOffer::in_cookie(cookie.expose()))
            .or(self.profile_offer.take());
        let (Some(offer), Some(kept)) = (offer, &self.config.profile) else {
            return Step::Done(done);
        };
        if kept.as_ref() == Some(&offer.hash) {
            return Step::Done(done);
        }
        match self.place(&offer.uri) {
            Ok(server) => {
                self.state = State::Profile(Box::new(done), offer.hash);
                self.get(server)
            }
            Err(error) => {
                self.say_no_profile(&error.to_string());
                Step::Done(done)
            }
        }
    }

    pub(super) fn handle_profile(
        &mut self,
        done: LoggedIn,
        hash: &ProfileHash,
        response: Result<Response, LoginError>,
    ) -> Step {
        match response {
            Ok(response) if response.status == 200 && ProfileHash::of(&response.body) == *hash => {
                self.profile = Some(response.body);
            }
            Ok(response) if response.status == 200 => self.say_no_profile("it has another hash"),
            Ok(response) => self.say_no_profile(&response.status_line()),
            Err(error) => self.say_no_profile(&error.to_string()),
        }
        Step::Done(done)
    }

    /// The profile that the server sent because the user's is another one.
    pub fn profile(&self) -> Option<&[u8]> {
        self.profile.as_deref()
    }

    fn say_no_profile(&mut self, why: &str) {
        let text = format!("Failed to download the XML profile: {why}");
        push(&mut self.messages, MessageLevel::Error, text);
    }
}
