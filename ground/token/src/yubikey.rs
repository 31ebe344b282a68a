//! The OATH applet of a YubiKey (`specs/client.md` §9.4): commands for a card, and its answers.

use std::fmt;
use std::num::NonZeroU32;

use aws_lc_rs::{hmac, pbkdf2};
use culvert_vocab::SecretString;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::oath::PERIOD;

const SELECT: [u8; 12] = [
    0x00, 0xa4, 0x04, 0x00, 0x07, 0xa0, 0x00, 0x00, 0x05, 0x27, 0x21, 0x01,
];
const LIST: [u8; 4] = [0x00, 0xa1, 0x00, 0x00];
const CONTINUE: [u8; 4] = [0x00, 0xa5, 0x00, 0x00];
const VERSION: u8 = 0x79;
const NAME: u8 = 0x71;
const LISTED: u8 = 0x72;
const CHALLENGE: u8 = 0x74;
const RESPONSE: u8 = 0x75;
const TRUNCATED: u8 = 0x76;
const SUCCESS: u16 = 0x9000;
const WRONG_SYNTAX: u16 = 0x6a80;
const NOT_FOUND: u16 = 0x6a82;
const MORE: u8 = 0x61;
/// More octets are no answer.
const ANSWER_MAX: usize = 64 * 1024;
/// Longest name of a credential.
const NAME_MAX: usize = 64;
const PIN_ROUNDS: NonZeroU32 = NonZeroU32::new(1000).unwrap();

/// Carries commands to a card.
pub trait Card {
    /// Sends a command and gives the answer with its status.
    ///
    /// # Errors
    /// Why the card cannot be reached.
    fn transmit(&mut self, command: &[u8]) -> Result<Vec<u8>, String>;
}

/// The applet does not do what is wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum YubikeyError {
    /// The card cannot be reached.
    #[error("{0}")]
    Card(String),
    /// There is no such applet on the card.
    #[error("the card has no OATH applet")]
    NoApplet,
    /// No credential, or none of this name.
    #[error("the card has no such OATH credential")]
    NoCredential,
    /// A PIN is needed, or the one given is wrong.
    #[error("PIN required for Yubikey OATH applet")]
    Pin,
    /// The answer has another form.
    #[error("malformed answer of the OATH applet")]
    Answer,
    /// The applet refuses.
    #[error("the OATH applet answers with status {0:04x}")]
    Status(u16),
}

/// What changes from code to code of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Hotp,
    Totp,
}

/// A credential on a card: `TOTP/SHA1 key 'NAME'`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    name: Vec<u8>,
    kind: Kind,
    hash: &'static str,
}

impl fmt::Display for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Hotp => "HOTP",
            Kind::Totp => "TOTP",
        };
        write!(
            f,
            "{kind}/{} key '{}'",
            self.hash,
            String::from_utf8_lossy(&self.name)
        )
    }
}

/// A selected applet. It has to be selected anew for each code.
pub struct Applet<'a> {
    card: &'a mut dyn Card,
    id: Vec<u8>,
    challenge: Option<Vec<u8>>,
    version: [u8; 3],
}

impl<'a> Applet<'a> {
    /// Selects the applet.
    ///
    /// # Errors
    /// The card has none, or cannot be reached.
    pub fn select(card: &'a mut dyn Card) -> Result<Self, YubikeyError> {
        let (answer, status) = exchange(card, &SELECT)?;
        match status {
            SUCCESS => {}
            NOT_FOUND => return Err(YubikeyError::NoApplet),
            other => return Err(YubikeyError::Status(other)),
        }
        let (mut id, mut challenge, mut version) = (Vec::new(), None, [0; 3]);
        for element in elements(&answer) {
            let (tag, content) = element?;
            match tag {
                VERSION => version = content.try_into().map_err(|_| YubikeyError::Answer)?,
                NAME => id = content.to_vec(),
                CHALLENGE => challenge = Some(content.to_vec()),
                _ => {}
            }
        }
        Ok(Self {
            card,
            id,
            challenge,
            version,
        })
    }

    /// The applet's version.
    pub fn version(&self) -> [u8; 3] {
        self.version
    }

    /// True until [`Self::unlock`], if the user has set a PIN.
    pub fn is_locked(&self) -> bool {
        self.challenge.is_some()
    }

    /// Proves knowledge of the PIN.
    ///
    /// # Errors
    /// [`YubikeyError::Pin`]: it is wrong.
    pub fn unlock(&mut self, pin: &SecretString) -> Result<(), YubikeyError> {
        let Some(challenge) = self.challenge.clone() else {
            return Ok(());
        };
        let mut result = self.try_pin(pin.expose().as_bytes(), &challenge);
        // Old programs took one octet of each character.
        if result == Err(YubikeyError::Pin) && !pin.expose().is_ascii() {
            let narrow: Zeroizing<Vec<u8>> = Zeroizing::new(
                pin.expose()
                    .chars()
                    .map(|character| character as u32 as u8)
                    .collect(),
            );
            result = self.try_pin(&narrow, &challenge);
        }
        result?;
        self.challenge = None;
        Ok(())
    }

    fn try_pin(&mut self, pin: &[u8], challenge: &[u8]) -> Result<(), YubikeyError> {
        const OWN_CHALLENGE: [u8; 8] = [0xff; 8];
        let mut key = Zeroizing::new([0; 16]);
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA1,
            PIN_ROUNDS,
            &self.id,
            pin,
            key.as_mut_slice(),
        );
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key.as_slice());
        let proof = hmac::sign(&key, challenge);
        let data = [
            &[RESPONSE, 20],
            proof.as_ref(),
            &[CHALLENGE, OWN_CHALLENGE.len() as u8],
            &OWN_CHALLENGE,
        ]
        .concat();
        let (answer, status) = exchange(
            self.card,
            &[&[0, 0xa3, 0, 0, data.len() as u8], data.as_slice()].concat(),
        )?;
        match status {
            SUCCESS => {}
            WRONG_SYNTAX => return Err(YubikeyError::Pin),
            other => return Err(YubikeyError::Status(other)),
        }
        let expected = hmac::sign(&key, &OWN_CHALLENGE);
        let (tag, content) = elements(&answer).next().ok_or(YubikeyError::Answer)??;
        match tag == RESPONSE && bool::from(content.ct_eq(expected.as_ref())) {
            true => Ok(()),
            false => Err(YubikeyError::Answer),
        }
    }

    /// The code of the credential with this name (`None`: of the first) at a time in seconds since
    /// 1970.
    ///
    /// # Errors
    /// There is no such credential, or the applet refuses.
    pub fn code(&mut self, name: Option<&str>, time: u64) -> Result<SecretString, YubikeyError> {
        if self.is_locked() {
            return Err(YubikeyError::Pin);
        }
        let credential = self.find(name)?;
        let len = u8::try_from(credential.name.len()).map_err(|_| YubikeyError::Answer)?;
        let mut data = vec![NAME, len];
        data.extend_from_slice(&credential.name);
        match credential.kind {
            Kind::Totp => {
                data.extend([CHALLENGE, 8]);
                data.extend((time / PERIOD).to_be_bytes());
            }
            Kind::Hotp => data.extend([CHALLENGE, 0]),
        }
        let command = [&[0, 0xa2, 0, 1, data.len() as u8], data.as_slice()].concat();
        let (answer, status) = exchange(self.card, &command)?;
        if status != SUCCESS {
            return Err(YubikeyError::Status(status));
        }
        let (tag, content) = elements(&answer).next().ok_or(YubikeyError::Answer)??;
        let (TRUNCATED, &[digits @ 6..=8, a, b, c, d]) = (tag, content) else {
            return Err(YubikeyError::Answer);
        };
        let number = u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff;
        let width = usize::from(digits);
        Ok(format!("{:0width$}", number % 10_u32.pow(digits.into())).into())
    }

    /// The credential that [`Self::code`] would use.
    ///
    /// # Errors
    /// See there.
    pub fn look_for(&mut self, name: Option<&str>) -> Result<Credential, YubikeyError> {
        match self.is_locked() {
            true => Err(YubikeyError::Pin),
            false => self.find(name),
        }
    }

    fn find(&mut self, name: Option<&str>) -> Result<Credential, YubikeyError> {
        let (answer, status) = exchange(self.card, &LIST)?;
        if status != SUCCESS {
            return Err(YubikeyError::Status(status));
        }
        for element in elements(&answer) {
            let (tag, content) = element?;
            let Some((kind, listed)) = content.split_first().filter(|_| tag == LISTED) else {
                continue;
            };
            let hash = match kind & 0x0f {
                1 => "SHA1",
                2 => "SHA256",
                _ => "SHA512",
            };
            let kind = match kind >> 4 {
                1 => Kind::Hotp,
                2 => Kind::Totp,
                _ => continue,
            };
            if listed.len() <= NAME_MAX && name.is_none_or(|name| name.as_bytes() == listed) {
                return Ok(Credential {
                    name: listed.to_vec(),
                    kind,
                    hash,
                });
            }
        }
        Err(YubikeyError::NoCredential)
    }
}

/// One command with all parts of its answer, and the last status.
fn exchange(card: &mut dyn Card, command: &[u8]) -> Result<(Zeroizing<Vec<u8>>, u16), YubikeyError> {
    let mut whole = Zeroizing::new(Vec::new());
    let mut command = command;
    loop {
        let part = Zeroizing::new(card.transmit(command).map_err(YubikeyError::Card)?);
        let (content, &[high, low]) = part.split_last_chunk().ok_or(YubikeyError::Answer)?;
        if whole.len() + content.len() > ANSWER_MAX {
            return Err(YubikeyError::Answer);
        }
        whole.extend_from_slice(content);
        if high != MORE || content.is_empty() {
            return Ok((whole, u16::from_be_bytes([high, low])));
        }
        command = &CONTINUE;
    }
}

/// The elements of an answer: tag, length, content.
fn elements(mut octets: &[u8]) -> impl Iterator<Item = Result<(u8, &[u8]), YubikeyError>> {
    std::iter::from_fn(move || {
        let (tag, rest) = octets.split_first()?;
        let (len, rest) = match rest {
            [len @ 0..=0x7f, rest @ ..] => (usize::from(*len), rest),
            [0x81, len, rest @ ..] => (usize::from(*len), rest),
            [0x82, high, low, rest @ ..] => (usize::from(u16::from_be_bytes([*high, *low])), rest),
            _ => {
                octets = &[];
                return Some(Err(YubikeyError::Answer));
            }
        };
        let Some((content, rest)) = rest.split_at_checked(len) else {
            octets = &[];
            return Some(Err(YubikeyError::Answer));
        };
        octets = rest;
        Some(Ok((*tag, content)))
    })
}
