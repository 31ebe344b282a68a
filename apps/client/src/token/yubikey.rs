use std::sync::Arc;

use culvert_sys::pcsc::{self, PcscError, Readers};
use culvert_token::{Applet, Card, YubikeyError};
use culvert_vocab::{Form, SecretString};

use super::{NoToken, field, fill};
use crate::context::Context;
use crate::output::Output;

/// Seconds of a time step.
const PERIOD: u64 = 30;

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
            let mut wrong = false;
            loop {
                match token.try_code(&readers, 0, true) {
                    Ok(_) => return Ok(token),
                    Err(YubikeyError::Pin) => {
                        token.pin = Some(ask_pin(context, wrong)?);
                        wrong = true;
                    }
                    Err(error) => {
                        let text = format!("Reader {}: {error}", token.reader);
                        context.output.debug(&text);
                        break;
                    }
                }
            }
        }
        context.output.error("Yubikey token not found");
        Err(NoToken)
    }

    /// A code, or with `only_look` just whether there would be one: a counter must not move.
    fn try_code(
        &self,
        readers: &Readers,
        time: u64,
        only_look: bool,
    ) -> Result<Option<SecretString>, YubikeyError> {
        let card = readers.card(&self.reader);
        let mut card = Inserted(card.map_err(|error| YubikeyError::Card(error.to_string()))?);
        let mut applet = Applet::select(&mut card)?;
        if let Some(pin) = &self.pin {
            applet.unlock(pin)?;
        }
        match only_look {
            true => applet.look_for(self.credential.as_deref()).map(|()| None),
            false => applet.code(self.credential.as_deref(), time).map(Some),
        }
    }
}

impl super::Token for Token {
    fn code(&mut self, time: u64, tries: u64) -> Result<SecretString, String> {
        self.output.info("Generating Yubikey token code");
        let failed = |error: String| format!("General Yubikey failure: {error}");
        let readers = Readers::open().map_err(|error| failed(error.to_string()))?;
        let code = self.try_code(&readers, time + tries * PERIOD, false);
        let code = code.map_err(|error| failed(error.to_string()))?;
        code.ok_or_else(|| failed("no code".into()))
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
