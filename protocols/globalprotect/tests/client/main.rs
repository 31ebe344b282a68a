//! The client's state machine against servers that the tests play.

#![allow(clippy::unwrap_used, clippy::panic)]

mod login;
mod replay;

use culvert_globalprotect::client::{Client, ClientOs, Login, LoginConfig};
use culvert_vocab::{FieldKind, Form};
use culvert_wire::url::ServerUrl;

fn client() -> Client {
    Client {
        os: ClientOs::new("linux-64"),
        computer: "host-1".into(),
        ipv6: true,
    }
}

fn login_at(url: &str) -> Login {
    Login::new(LoginConfig {
        server: ServerUrl::parse(url).unwrap(),
        client: client(),
        external_auth: true,
        passwords: true,
    })
}

fn fill(mut form: Form, password: &str) -> Form {
    for field in &mut form.fields {
        let value = match (&field.kind, field.name.as_str()) {
            (FieldKind::Select(choices), _) => choices[0].value.clone(),
            (FieldKind::Hidden, _) => continue,
            (_, "user") => "test".into(),
            _ => password.to_owned(),
        };
        field.value = Some(value.into());
    }
    form
}
