//! The protocols that the client speaks, each behind the same doors: a login that ends in a
//! cookie, and a connector that turns the cookie into tunnels.

mod anyconnect;
mod globalprotect;

use std::sync::Arc;

use culvert_login::client::LoggedIn;
use culvert_vocab::SecretString;
use culvert_wire::url::ServerUrl;

use crate::connect::Connector;
use crate::context::Context;
use crate::login::LoginFailure;
use crate::net::HttpClient;
use crate::options::ProtocolName;

/// One protocol.
pub(crate) trait Protocol {
    /// Logs in to `server`.
    ///
    /// # Errors
    /// See [`LoginFailure`].
    fn log_in(
        &mut self,
        context: &Arc<Context>,
        http: &mut HttpClient,
        server: ServerUrl,
    ) -> Result<LoggedIn, LoginFailure>;

    /// A connector for this cookie; it goes on with the connection of the login, if there was one.
    ///
    /// # Errors
    /// The text to show: the cookie is none of this protocol.
    fn connector(
        &self,
        context: &Arc<Context>,
        http: HttpClient,
        server: ServerUrl,
        cookie: &SecretString,
    ) -> Result<Box<dyn Connector>, String>;
}

/// The protocol that the options name.
///
/// # Errors
/// The text to show: an option does not fit it.
pub(crate) fn of(context: &Context) -> Result<Box<dyn Protocol>, String> {
    Ok(match context.options.protocol {
        ProtocolName::AnyConnect => Box::new(anyconnect::AnyConnect::new(context)?),
        ProtocolName::GlobalProtect => Box::new(globalprotect::GlobalProtect::default()),
    })
}
