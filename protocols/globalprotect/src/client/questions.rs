//! What users are asked: forms, and sign-ins with a browser (`specs/globalprotect.md` §5.2, §5.4, §8).

use culvert_login::client::{SignIn, SignInResult};
use culvert_vocab::{Choice, Field, FieldKind, Form, SecretString};

use super::challenge::Challenge;
use super::portal::GatewayEntry;
use super::prelogin::{Prelogin, Saml};

/// Name of the field with the user's name.
pub(super) const USER: &str = "user";
/// The form with the choice of a gateway, and its field.
const CHOICE_FORM: &str = "_portal";
const CHOICE: &str = "gateway";

fn field(name: &str, label: String, kind: FieldKind, value: Option<SecretString>) -> Field {
    Field {
        name: name.to_owned(),
        label,
        kind,
        value,
        ignored: false,
    }
}

/// Who logs in, and with what.
pub(super) struct Credentials<'a> {
    /// The user, once known.
    pub(super) user: Option<&'a SecretString>,
    /// Name of the secret.
    pub(super) secret_name: &'a str,
    /// The secret is a code of a software token, if there is one.
    pub(super) code: bool,
}

/// The login form, or that of a challenge.
pub(super) fn login_form(
    prelogin: &Prelogin,
    challenge: Option<&Challenge>,
    credentials: &Credentials<'_>,
) -> Form {
    let text = |text: Option<&str>, default: &str| text.unwrap_or(default).to_owned();
    let (id, message, label) = match challenge {
        Some(challenge) => ("_challenge", challenge.prompt.clone(), "Challenge: ".to_owned()),
        None => (
            "_login",
            text(
                prelogin.message.as_deref(),
                "Please enter your username and password",
            ),
            format!("{}: ", text(prelogin.password_label.as_deref(), "Password")),
        ),
    };
    let user = credentials.user;
    let user_kind = match user {
        Some(_) => FieldKind::Hidden,
        None => FieldKind::Text,
    };
    let user_label = format!("{}: ", text(prelogin.username_label.as_deref(), "Username"));
    let secret_kind = match credentials.code {
        true => FieldKind::Token,
        false => FieldKind::Password,
    };
    Form {
        id: id.to_owned(),
        message: Some(message).filter(|message| !message.is_empty()),
        fields: vec![
            field(USER, user_label, user_kind, user.cloned()),
            field(credentials.secret_name, label, secret_kind, None),
        ],
        ..Form::default()
    }
}

/// The choice between these gateways; the first one is the default.
pub(super) fn gateway_form(gateways: &[GatewayEntry]) -> Form {
    let choices = gateways.iter().enumerate().map(|(at, gateway)| Choice {
        value: gateway.address.clone(),
        label: gateway.label.clone(),
        selected: at == 0,
    });
    Form {
        message: Some("Please select GlobalProtect gateway.".into()),
        ..choice_form(FieldKind::Select(choices.collect()), None)
    }
}

/// The same form once a gateway has been chosen.
pub(super) fn chosen_gateway_form(address: &str) -> Form {
    choice_form(FieldKind::Hidden, Some(address.into()))
}

fn choice_form(kind: FieldKind, value: Option<SecretString>) -> Form {
    Form {
        id: CHOICE_FORM.into(),
        fields: vec![field(CHOICE, "GATEWAY:".into(), kind, value)],
        group_field: Some(0),
        ..Form::default()
    }
}

/// A sign-in with a browser.
///
/// # Errors
/// What is wrong with the server's request, for the user; without `browser` that one is needed.
pub(super) fn sign_in(prelogin: &Prelogin, saml: &Saml, browser: bool) -> Result<SignIn, String> {
    let method = &saml.method;
    let url = saml.url()?;
    let otherwise = format!(
        "SAML {method} authentication is required via {url}\nWhen SAML authentication is complete, specify destination form field by appending :field_name to login URL."
    );
    if !browser {
        return Err(otherwise);
    }
    Ok(SignIn {
        url,
        result: SignInResult::Text {
            hint: "After the sign-in, paste the link of the last page (globalprotectcallback:...):".into(),
            otherwise,
        },
        form: Form {
            message: prelogin.message.clone(),
            ..Form::default()
        },
    })
}
