//! Portable symmetric key containers (RFC 6030), the first key of the first package.

use std::fmt;
use std::ops::Range;

use culvert_vocab::SecretString;
use data_encoding::BASE64;
use quick_xml::Reader;
use quick_xml::events::{BytesEnd, BytesStart, Event};

use crate::TokenError;
use crate::oath::{DIGITS, Hash, Mode, Oath, PERIOD, Spelling, digits};
use crate::secret::counter;

/// Deepest nesting of elements.
const DEPTH_MAX: usize = 32;

/// The document, and where its counter is.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Pskc {
    document: SecretString,
    counter: Counter,
}

#[derive(Clone, PartialEq, Eq)]
enum Counter {
    /// Its digits.
    At(Range<usize>),
    /// It is missing, which means 0: where it belongs, and the prefix of its elements.
    Missing(usize, String),
}

impl Pskc {
    pub(crate) fn parse(mode: Mode, document: &str) -> Result<Oath, TokenError> {
        let mut key = Key::default();
        let mut path: Vec<String> = Vec::new();
        let mut reader = Reader::from_str(document);
        let mut before = 0;
        loop {
            let event = reader
                .read_event()
                .map_err(|_| TokenError::Invalid("the PSKC document is no XML"))?;
            let after = usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX);
            match event {
                Event::Start(element) => {
                    path.push(local_name(&element));
                    key.handle_element(&path, &element)?;
                }
                Event::Empty(element) => {
                    path.push(local_name(&element));
                    key.handle_element(&path, &element)?;
                    key.handle_text(&path, document, after..after);
                    path.pop();
                    key.check_counter(&path)?;
                }
                Event::End(element) => {
                    let ended = path.pop();
                    key.handle_end(&element, after);
                    key.check_counter(&path)?;
                    if ended.as_deref() == Some("Key") {
                        break;
                    }
                }
                Event::Text(_) => key.handle_text(&path, document, before..after),
                Event::Eof => break,
                _ => {}
            }
            if path.len() > DEPTH_MAX {
                return Err(TokenError::Invalid("the PSKC document is nested too deeply"));
            }
            before = after;
        }
        key.into_token(mode, document)
    }

    /// The document with another counter.
    pub(crate) fn write(&self, counter: u64) -> SecretString {
        let document = self.document.expose();
        let (range, text) = match &self.counter {
            Counter::At(range) => (range.clone(), counter.to_string()),
            Counter::Missing(place, prefix) => {
                let value = format!("<{prefix}PlainValue>{counter}</{prefix}PlainValue>");
                (
                    *place..*place,
                    format!("<{prefix}Counter>{value}</{prefix}Counter>"),
                )
            }
        };
        let before = document.get(..range.start).unwrap_or_default();
        let after = document.get(range.end..).unwrap_or_default();
        format!("{before}{text}{after}\n").into()
    }
}

impl fmt::Debug for Pskc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pskc(..)")
    }
}

/// What was found about the key.
#[derive(Default)]
struct Key {
    algorithm: Option<String>,
    suite: Option<String>,
    digits: Option<String>,
    secret: Option<SecretString>,
    /// The end of the secret's element and the prefix of its name.
    secret_end: Option<(usize, String)>,
    counter: Option<Range<usize>>,
    period: Option<String>,
}

impl Key {
    fn handle_element(&mut self, path: &[String], element: &BytesStart<'_>) -> Result<(), TokenError> {
        match path.last().map(String::as_str) {
            Some("Key") => self.algorithm = attribute(element, "Algorithm"),
            Some("ResponseFormat") => self.digits = attribute(element, "Length"),
            Some("EncryptedValue") => return Err(TokenError::EncryptedPskc),
            _ => {}
        }
        Ok(())
    }

    fn handle_end(&mut self, element: &BytesEnd<'_>, after: usize) {
        if element.local_name().as_ref() == b"Secret" {
            let name = String::from_utf8_lossy(element.name().as_ref()).into_owned();
            let prefix = name.strip_suffix("Secret").unwrap_or_default();
            self.secret_end = Some((after, prefix.to_owned()));
        }
    }

    /// An empty counter in `path` could not be written back: codes would come again.
    fn check_counter(&self, path: &[String]) -> Result<(), TokenError> {
        let is_empty = self.counter.as_ref().is_none_or(Range::is_empty);
        match path.last().is_some_and(|name| name == "Counter") && is_empty {
            true => Err(TokenError::Invalid("the counter of the PSKC document is empty")),
            false => Ok(()),
        }
    }

    fn handle_text(&mut self, path: &[String], document: &str, range: Range<usize>) {
        let (text, range) = trimmed(document, range);
        let names: Vec<&str> = path.iter().rev().take(2).map(String::as_str).collect();
        match names.as_slice() {
            ["PlainValue", "Secret"] => self.secret = Some(text.into()),
            ["PlainValue", "Counter"] => self.counter = Some(range),
            ["PlainValue", "TimeInterval"] => self.period = Some(text.to_owned()),
            ["Suite", _] => self.suite = Some(text.to_owned()),
            _ => {}
        }
    }

    fn into_token(self, mode: Mode, document: &str) -> Result<Oath, TokenError> {
        let wanted = match mode {
            Mode::Totp => "urn:ietf:params:xml:ns:keyprov:pskc:totp",
            Mode::Hotp => "urn:ietf:params:xml:ns:keyprov:pskc:hotp",
        };
        if self.algorithm.as_deref() != Some(wanted) {
            return Err(TokenError::OtherMode);
        }
        let secret = self
            .secret
            .ok_or(TokenError::Invalid("the PSKC document has no secret"))?;
        let secret: String = secret.expose().split_ascii_whitespace().collect();
        let key = BASE64
            .decode(zeroize::Zeroizing::new(secret).as_bytes())
            .map_err(|_| TokenError::Invalid("the secret of the PSKC document is no base64"))?;
        if key.is_empty() {
            return Err(TokenError::Invalid("the secret of the PSKC document is empty"));
        }
        let counter = match &self.counter {
            Some(range) => counter(document.get(range.clone()).unwrap_or_default())?,
            None => 0,
        };
        let period = match self.period {
            Some(period) => period
                .parse()
                .ok()
                .filter(|period| *period > 0)
                .ok_or(TokenError::Invalid("the time interval is no number of seconds"))?,
            None => PERIOD,
        };
        Ok(Oath {
            mode,
            hash: match self.suite {
                Some(suite) if suite.ends_with("SHA256") => Hash::Sha256,
                Some(suite) if suite.ends_with("SHA512") => Hash::Sha512,
                _ => Hash::Sha1,
            },
            key: key.into(),
            digits: self.digits.as_deref().map_or(Ok(DIGITS), digits)?,
            period,
            counter,
            spelling: Spelling::Pskc(Pskc {
                document: document.into(),
                counter: match (self.counter, self.secret_end) {
                    (Some(range), _) => Counter::At(range),
                    (None, Some((place, prefix))) => Counter::Missing(place, prefix),
                    (None, None) => {
                        return Err(TokenError::Invalid("the PSKC document has no secret"));
                    }
                },
            }),
        })
    }
}

/// The name without its prefix.
fn local_name(element: &BytesStart<'_>) -> String {
    String::from_utf8_lossy(element.local_name().as_ref()).into_owned()
}

fn attribute(element: &BytesStart<'_>, name: &str) -> Option<String> {
    let attribute = element.try_get_attribute(name).ok()??;
    Some(String::from_utf8_lossy(&attribute.value).into_owned())
}

/// A part of the document without the white space around it.
fn trimmed(document: &str, range: Range<usize>) -> (&str, Range<usize>) {
    let text = document.get(range.clone()).unwrap_or_default();
    let start = range.start + (text.len() - text.trim_start().len());
    let text = text.trim();
    (text, start..start + text.len())
}
