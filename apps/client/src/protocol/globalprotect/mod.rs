//! GlobalProtect.

mod connect;
mod hip_script;
mod host;

use std::sync::Arc;

use culvert_globalprotect::client::{Client, ClientOs, Cookie, Gateway, Login, LoginConfig, Portal};
use culvert_login::client::LoggedIn;
use culvert_vocab::SecretString;
use culvert_wire::url::ServerUrl;

use self::connect::GpConnector;
use super::Protocol;
use crate::connect::Connector;
use crate::context::Context;
use crate::identity;
use crate::login::{self, LoginFailure};
use crate::net::HttpClient;
use crate::profile;

/// The protocol.
#[derive(Debug, Default)]
pub(super) struct GlobalProtect {
    /// What the portal said, if one was logged in to.
    portal: Option<Portal>,
}

impl Protocol for GlobalProtect {
    fn log_in(
        &mut self,
        context: &Arc<Context>,
        http: &mut HttpClient,
        server: ServerUrl,
    ) -> Result<LoggedIn, LoginFailure> {
        let asked = server.clone();
        let mut login = Login::new(LoginConfig {
            server,
            client: client(context),
            external_auth: !context.options.login.no_external_auth,
            passwords: !context.options.login.no_password,
        });
        let done = login::log_in(context, http, &mut login)?;
        self.portal = login.portal().cloned();
        if let (Some(path), Some(portal)) = (&context.options.login.profile, &self.portal)
            && let Err(text) = profile::write(path, portal.server_list(&asked).as_bytes())
        {
            context.output.error(&text);
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
        let portal = self.portal.as_ref();
        let gateway = Gateway {
            server: ServerUrl {
                path: String::new(),
                ..server
            },
            cookie: Cookie::parse(cookie.expose()).map_err(|error| error.to_string())?,
            client: client(context),
            app_version: portal.and_then(|portal| portal.version.clone()),
        };
        let interval = portal.and_then(|portal| portal.hip_interval);
        Ok(Box::new(GpConnector::new(
            Arc::clone(context),
            http,
            gateway,
            interval,
        )))
    }
}

fn client(context: &Context) -> Client {
    let options = &context.options;
    Client {
        os: ClientOs::new(identity::os_or(options.identity.os.as_deref())),
        computer: identity::host_name_or(options.identity.host_name.as_deref()),
        ipv6: !options.tunnel.disable_ipv6,
    }
}
