//! AnyConnect: the login.

use culvert_anyconnect::client::{Login, LoginConfig, Platform, StrapKeys};
use culvert_wire::url::ServerUrl;

use crate::context::Context;
use crate::identity;

/// A login to `server`.
pub(crate) fn login(context: &Context, server: ServerUrl, platform: Platform) -> Login {
    Login::new(login_config(context, server, platform))
}

fn login_config(context: &Context, server: ServerUrl, platform: Platform) -> LoginConfig {
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
        passwords: !options.login.no_password,
    }
}
