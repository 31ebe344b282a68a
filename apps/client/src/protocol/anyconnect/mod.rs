//! AnyConnect and ocserv.

mod connect;

use std::sync::Arc;

use culvert_anyconnect::client::{
    Cookie, HostScanRule, Login, LoginConfig, Platform, ProfileHash, StrapKeys,
};
use culvert_login::client::LoggedIn;
use culvert_vocab::SecretString;
use culvert_wire::url::ServerUrl;

use self::connect::CstpConnector;
use super::Protocol;
use crate::connect::Connector;
use crate::context::Context;
use crate::credentials::Second;
use crate::identity;
use crate::login::{self, LoginFailure};
use crate::net::HttpClient;
use crate::options::TokenOptions;
use crate::profile;

/// The protocol.
pub(super) struct AnyConnect {
    platform: Platform,
}

impl AnyConnect {
    pub(super) fn new(context: &Context) -> Result<Self, String> {
        let os = identity::os_or(context.options.identity.os.as_deref());
        let platform = Platform::new(os).ok_or_else(|| format!("Invalid OS identity \"{os}\""))?;
        Ok(Self { platform })
    }
}

impl Protocol for AnyConnect {
    fn log_in(
        &mut self,
        context: &Arc<Context>,
        http: &mut HttpClient,
        server: ServerUrl,
    ) -> Result<LoggedIn, LoginFailure> {
        let mut login = Login::new(login_config(context, server, self.platform.clone()));
        let done = login::log_in(context, http, &mut login)?;
        if let (Some(path), Some(new)) = (&context.options.login.profile, login.profile()) {
            match profile::write(path, new) {
                Ok(()) => context
                    .output
                    .info(&format!("Updated XML profile '{}'", path.display())),
                Err(text) => context.output.error(&text),
            }
        }
        Ok(done)
    }

    fn connector(
        &self,
        context: &Arc<Context>,
        http: HttpClient,
        server: ServerUrl,
        cookie: &SecretString,
    ) -> Result<Box<dyn Connector>, String> {
        let cookie = Cookie::parse(cookie.expose()).map_err(|error| error.to_string())?;
        let context = Arc::clone(context);
        let platform = self.platform.clone();
        Ok(Box::new(CstpConnector::new(
            context, http, server, cookie, platform,
        )))
    }
}

fn login_config(context: &Arc<Context>, server: ServerUrl, platform: Platform) -> LoginConfig {
    let options = &context.options;
    let external = !options.login.no_external_auth;
    LoginConfig {
        server,
        user_agent: identity::user_agent_or(options.identity.user_agent.as_deref()),
        version: identity::version_or(options.identity.version.as_deref()),
        platform,
        group: options.login.auth_group.clone(),
        xml_post: !options.login.no_xml_post,
        external_auth: external,
        strap: external.then(StrapKeys::generate).and_then(Result::ok),
        certificate: options.credentials.primary.is_some(),
        second_certificate: Second::of_options(context),
        token: options.login.token.as_ref().map(TokenOptions::kind),
        passwords: !options.login.no_password,
        browser: options.login.browser.is_some(),
        host_scan: match (&options.host_scan.wrapper, options.host_scan.user) {
            (Some(_), _) => HostScanRule::Wrapper,
            (None, Some(_)) => HostScanRule::Program,
            (None, None) => HostScanRule::Refuse,
        },
        profile: options.login.profile.as_deref().map(|path| {
            let kept = profile::read(path).ok();
            kept.as_deref().map(ProfileHash::of)
        }),
    }
}
