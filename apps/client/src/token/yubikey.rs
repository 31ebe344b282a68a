use std::sync::Arc;

use culvert_sys::pcsc::{self, PcscError, Readers};
use culvert_token::{Applet, Card, Credential, PERIOD, YubikeyError};
use culvert_vocab::{Form, SecretString};

use super::{NoToken, field, fill};
use crate::context::Context;
use crate::output::{Output, printable};

/// A credential on a YubiKey (`specs/client.md` §9.4).
#[derive(Debug)]
pub(super) struct Token {
    reader: String,
    credential: Option<String>,
    pin: Option<SecretString>,
    output: Arc<Output>,
}

/// A card of the system's readers.
struct Inserted<'a>(pcsc::Card<'a>);

impl Card for Inserted<'_> {
    fn transmit(&mut self, command: &[u8]) -> Result<Vec<u8>, String> {
        self.0.transmit(command).map_err(|error| error.to_string())
    }
}

impl Token {
    /// The first card of all readers that has the credential, or any if there is no name. Asks for
    /// its PIN.
    pub(super) fn find(context: &Context, credential: Option<&str>) -> Result<Self, NoToken> {
        let failed = |error: PcscError| {
            let text = format!("General Yubikey failure: {error}");
            context.output.error(&text);
            NoToken
        };
        let readers = Readers::open().map_err(failed)?;
        // No reader is no card.
        for reader in readers.names().unwrap_or_default() {
            let mut token = Self {
                reader,
                credential: credential.map(str::to_owned),
                pin: None,
                output: Arc::clone(&context.output),
            };
            match token.unlock(context, &readers) {
                Ok(found) => {
                    let text = format!("Found {found} on '{}'", token.reader);
                    context.output.info(&printable(&text));
                    return Ok(token);
                }
                Err(Unusable::NoPin) => break,
                Err(Unusable::Card(error)) => {
                    let text = match (error, credential) {
                        (YubikeyError::Card(error), _) => {
                            format!("Failed to connect to PC/SC reader '{}': {error}", token.reader)
                        }
                        (YubikeyError::NoCredential, Some(name)) => format!(
                            "Token '{name}' not found on Yubikey '{}'. Searching for another Yubikey...",
                            token.reader
                        ),
                        (error, _) => format!("Reader {}: {error}", token.reader),
                    };
                    context.output.info(&text);
                }
            }
        }
        context.output.error("Yubikey token not found");
        Err(NoToken)
    }

    /// Asks for the PIN until the card has shown its credential.
    fn unlock(&mut self, context: &Context, readers: &Readers) -> Result<Credential, Unusable> {
        let [major, minor, patch] = self.with_applet(readers, |applet| Ok(applet.version()))?;
        let version = format!("{major}.{minor}.{patch}");
        context
            .output
            .info(&format!("Found ykneo-oath applet v{version}."));
        loop {
            let found = self.with_applet(readers, |applet| {
                self.give_pin(applet)?;
                applet.look_for(self.credential.as_deref())
            });
            match found {
                Err(YubikeyError::Pin) => {
                    let pin = ask_pin(context, self.pin.is_some()).map_err(|_| Unusable::NoPin)?;
                    self.pin = Some(pin);
                }
                found => return Ok(found?),
            }
        }
    }

    fn give_pin(&self, applet: &mut Applet<'_>) -> Result<(), YubikeyError> {
        self.pin.as_ref().map_or(Ok(()), |pin| applet.unlock(pin))
    }

    /// Does something with the applet, with which nobody else does anything meanwhile.
    fn with_applet<T>(
        &self,
        readers: &Readers,
        act: impl FnOnce(&mut Applet<'_>) -> Result<T, YubikeyError>,
    ) -> Result<T, YubikeyError> {
        let card = readers.card(&self.reader);
        let mut card = Inserted(card.map_err(|error| YubikeyError::Card(error.to_string()))?);
        act(&mut Applet::select(&mut card)?)
    }
}

/// Why a card is of no use.
enum Unusable {
    /// The user gave no PIN.
    NoPin,
    Card(YubikeyError),
}

impl From<YubikeyError> for Unusable {
    fn from(error: YubikeyError) -> Self {
        Self::Card(error)
    }
}

impl super::Token for Token {
    fn code(&mut self, time: u64, tries: u64) -> Result<SecretString, String> {
        self.output.info("Generating Yubikey token code");
        let failed = |error: String| format!("General Yubikey failure: {error}");
        let readers = Readers::open().map_err(|error| failed(error.to_string()))?;
        let code = self.with_applet(&readers, |applet| {
            self.give_pin(applet)?;
            applet.code(self.credential.as_deref(), time + tries * PERIOD)
        });
        code.map_err(|error| failed(error.to_string()))
    }
}

fn ask_pin(context: &Context, wrong: bool) -> Result<SecretString, NoToken> {
    let mut form = Form {
        id: "yubikey_oath_pin".into(),
        message: Some("PIN required for Yubikey OATH applet".into()),
        error: wrong.then(|| "Wrong PIN".into()),
        fields: vec![field("yubikey_pin", "Yubikey PIN:", true)],
        ..Form::default()
    };
    fill(context, &mut form)?;
    Ok(form
        .fields
        .pop()
        .and_then(|field| field.value)
        .unwrap_or_default())
}
