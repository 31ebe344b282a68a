use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use cryptoki::types::AuthPin;
use culvert_vocab::SecretString;

use crate::{Key, Pkcs11Error, Uri, modules};

/// Most certificates that are read from one token.
const CERTIFICATES_MAX: usize = 32;

/// What is asked when a token wants its PIN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinRequest {
    /// The token's label.
    pub label: String,
    /// The PIN given before was wrong.
    pub wrong: bool,
    /// Only a few tries are left.
    pub few_tries: bool,
    /// This is the last one.
    pub final_try: bool,
}

/// Gives PINs.
pub trait AskPin {
    /// The PIN, or `None` to give up. A PIN that was wrong must not be given again.
    fn pin(&mut self, request: &PinRequest) -> Option<SecretString>;
}

/// A certificate on a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Its DER form.
    pub der: Vec<u8>,
    /// The other certificates on the token, which may have issued it.
    pub others: Vec<Vec<u8>>,
    id: Vec<u8>,
    token: [String; 4],
}

/// The tokens in all readers.
pub struct Tokens {
    tokens: Vec<Token>,
}

struct Token {
    context: Pkcs11,
    slot: Slot,
    info: TokenInfo,
    session: Session,
    logged_in: bool,
}

/// Loads a module, once for the life of the process: dropping a module ends the sessions of all
/// who use it, and some crash when they are unloaded. `None` when it does not work.
fn module(path: &Path) -> Option<Pkcs11> {
    static LOADED: Mutex<Vec<(PathBuf, Pkcs11)>> = Mutex::new(Vec::new());
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, context)) = loaded.iter().find(|(known, _)| known == path) {
        return Some(context.clone());
    }
    let context = Pkcs11::new(path).ok()?;
    match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
        Err(_) => return None,
    }
    loaded.push((path.to_owned(), context.clone()));
    Some(context)
}

impl Tokens {
    /// Loads the modules in which objects of `uri` may be and opens every token that it may mean.
    /// Modules and tokens that do not work are left out.
    pub fn open(uri: &Uri) -> Self {
        let mut tokens = Vec::new();
        for path in modules::paths(uri) {
            let Some(context) = module(&path) else { continue };
            for slot in context.get_slots_with_token().unwrap_or_default() {
                tokens.extend(Token::open(&context, slot));
            }
        }
        tokens.retain(|token| token.matches(uri));
        Self { tokens }
    }

    /// Finds a certificate; logs in only if it is not found otherwise.
    ///
    /// # Errors
    /// See [`Pkcs11Error`].
    pub fn certificate(&mut self, uri: &Uri, pins: &mut dyn AskPin) -> Result<Certificate, Pkcs11Error> {
        let (position, object) = self.find(uri, ObjectClass::CERTIFICATE, pins)?;
        let token = self.tokens.get(position).ok_or(Pkcs11Error::NotFound)?;
        let mut others = Vec::new();
        for other in token
            .session
            .find_objects(&[Attribute::Class(ObjectClass::CERTIFICATE)])?
        {
            if other != object && others.len() < CERTIFICATES_MAX {
                others.extend(token.value(other, AttributeType::Value)?);
            }
        }
        Ok(Certificate {
            der: token
                .value(object, AttributeType::Value)?
                .ok_or(Pkcs11Error::NotFound)?,
            others,
            id: token.value(object, AttributeType::Id)?.unwrap_or_default(),
            token: token.names(),
        })
    }

    /// Finds a private key. `certificate` is given when the URI was that of the certificate: then
    /// the key is looked for on the same token, by the same name, else by the certificate's id.
    ///
    /// # Errors
    /// See [`Pkcs11Error`].
    pub fn key(
        mut self,
        uri: &Uri,
        certificate: Option<&Certificate>,
        pins: &mut dyn AskPin,
    ) -> Result<Key, Pkcs11Error> {
        let on_token = certificate.map(|certificate| uri.on_token(&certificate.token));
        let mut candidates = vec![on_token.as_ref().unwrap_or(uri).clone()];
        candidates.extend(certificate.map(|certificate| candidates[0].with_id(&certificate.id)));
        for candidate in &candidates {
            match self.find(candidate, ObjectClass::PRIVATE_KEY, pins) {
                Ok((position, object)) => {
                    return Ok(Key::new(self.tokens.swap_remove(position).session, object));
                }
                Err(Pkcs11Error::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Pkcs11Error::NotFound)
    }

    /// First without login on every token, then with: a token may hide private objects.
    fn find(
        &mut self,
        uri: &Uri,
        class: ObjectClass,
        pins: &mut dyn AskPin,
    ) -> Result<(usize, ObjectHandle), Pkcs11Error> {
        let template = template(uri, class);
        for log_in in [false, true] {
            for (position, token) in self.tokens.iter_mut().enumerate() {
                if !token.matches(uri) || (log_in && !token.log_in(uri, pins)?) {
                    continue;
                }
                if let Some(object) = token.session.find_objects(&template)?.into_iter().next() {
                    return Ok((position, object));
                }
            }
        }
        Err(Pkcs11Error::NotFound)
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels = self.tokens.iter().map(|token| token.info.label());
        f.debug_list().entries(labels).finish()
    }
}

impl Token {
    fn open(context: &Pkcs11, slot: Slot) -> Option<Self> {
        let info = context.get_token_info(slot).ok()?;
        Some(Self {
            context: context.clone(),
            slot,
            info,
            session: context.open_ro_session(slot).ok()?,
            logged_in: false,
        })
    }

    fn names(&self) -> [String; 4] {
        [
            self.info.label(),
            self.info.manufacturer_id(),
            self.info.model(),
            self.info.serial_number(),
        ]
        .map(str::to_owned)
    }

    fn matches(&self, uri: &Uri) -> bool {
        let [label, manufacturer, model, serial] = self.names();
        let fits = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
        fits(&uri.token, &label)
            && fits(&uri.manufacturer, &manufacturer)
            && fits(&uri.model, &model)
            && fits(&uri.serial, &serial)
            && uri.slot_id.is_none_or(|id| id == self.slot.id())
    }

    /// Logs in unless that has been done. False if the token has no PIN to log in with.
    fn log_in(&mut self, uri: &Uri, pins: &mut dyn AskPin) -> Result<bool, Pkcs11Error> {
        if self.logged_in {
            return Ok(true);
        }
        if !self.info.user_pin_initialized() {
            return Ok(false);
        }
        let mut given = uri.pin();
        let mut wrong = false;
        while !self.logged_in {
            let info = self.context.get_token_info(self.slot)?;
            if info.user_pin_locked() {
                return Err(Pkcs11Error::Locked);
            }
            let request = PinRequest {
                label: info.label().to_owned(),
                wrong,
                few_tries: info.user_pin_count_low(),
                final_try: info.user_pin_final_try(),
            };
            // A reader with a keypad asks by itself.
            let pin = match info.protected_authentication_path() {
                true => None,
                false => Some(match given.take() {
                    Some(pin) => pin,
                    None => pins.pin(&request).ok_or(Pkcs11Error::NoPin)?,
                }),
            };
            let pin = pin.map(|pin| AuthPin::from(pin.expose().to_owned()));
            match self.session.login(UserType::User, pin.as_ref()) {
                Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => self.logged_in = true,
                Err(Error::Pkcs11(RvError::PinLocked, _)) => return Err(Pkcs11Error::Locked),
                Err(Error::Pkcs11(RvError::PinIncorrect | RvError::PinLenRange | RvError::PinInvalid, _)) => {
                    wrong = true;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    fn value(&self, object: ObjectHandle, kind: AttributeType) -> Result<Option<Vec<u8>>, Pkcs11Error> {
        let attributes = self.session.get_attributes(object, &[kind])?;
        Ok(attributes.into_iter().find_map(|attribute| match attribute {
            Attribute::Value(value) | Attribute::Id(value) => Some(value),
            _ => None,
        }))
    }
}

fn template(uri: &Uri, class: ObjectClass) -> Vec<Attribute> {
    let mut template = vec![Attribute::Class(class)];
    template.extend(uri.object.clone().map(Attribute::Label));
    template.extend(uri.id.clone().map(Attribute::Id));
    template
}
