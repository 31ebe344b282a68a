//! The method `oidc` (`specs/server-auth.md` §2.6): one token, and no second try.

use std::net::IpAddr;
use std::sync::Arc;

use culvert_vocab::SecretString;

use super::{Accepted, Progress};
use crate::broker::oidc::Provider;
use crate::helper::oidc::messages::Verdict;
use crate::ipc::SecretText;

/// A login.
#[derive(Debug)]
pub(in crate::broker) struct Attempt {
    provider: Arc<Provider>,
    peer: IpAddr,
}

impl Attempt {
    pub(super) fn new(provider: Arc<Provider>, peer: IpAddr) -> (Self, Progress) {
        (Self { provider, peer }, Progress::Challenge(None))
    }

    pub(super) async fn answer(&mut self, token: SecretString) -> Progress {
        let Ok(token) = SecretText::new(token) else {
            return Progress::Refused(Some("the token is too long".to_owned()));
        };
        match self.provider.judge(self.peer, token).await {
            Verdict::Accepted { user, groups } => Progress::Accepted(Box::new(Accepted::new(user, groups))),
            Verdict::Refused(why) => Progress::Refused(Some(why.into())),
            Verdict::Unavailable(why) => Progress::Unavailable(format!("oidc: {why}")),
        }
    }
}
