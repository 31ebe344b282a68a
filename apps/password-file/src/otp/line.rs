//! One line of the users file: `TYPE USER PIN HEXKEY [COUNTER [LASTOTP [TIMESTAMP]]]`.

use chrono::{DateTime, Local, NaiveDateTime};
use data_encoding::HEXLOWER_PERMISSIVE;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::code::is_code;

/// How many counters or time steps, in each direction, are tried.
const WINDOW: i64 = 20;

/// Local time, as `2026-11-21T18:28:32L`.
const TIME_FORMAT: &str = "%Y-%m-%dT%H:%M:%SL";

/// How a token counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moving {
    /// A counter of uses.
    Event,
    /// Steps of so many seconds.
    Time(i64),
}

/// A line with a token.
#[derive(Debug)]
pub(super) struct Line<'a> {
    kind: &'a str,
    moving: Moving,
    digits: u32,
    pub(super) user: &'a str,
    pin: &'a str,
    key: &'a str,
    counter: i64,
    last: Option<&'a str>,
    /// When that was, on this host's clocks.
    last_time: Option<&'a str>,
}

/// Why a code was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rejected {
    /// It is wrong, or has been used.
    Wrong,
    /// The key cannot be read.
    Key,
}

impl<'a> Line<'a> {
    /// `None` for comments, empty lines and kinds of tokens that do not exist here, and for a counter of
    /// uses that is no number: any code could be one that was used before.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        let line = std::str::from_utf8(line).ok()?;
        let line = line.strip_suffix('\r').unwrap_or(line);
        let mut fields = line.split([' ', '\t']).filter(|field| !field.is_empty());
        let kind = fields.next()?;
        let (moving, digits) = kind_of(kind)?;
        let (user, pin, key) = (fields.next()?, fields.next()?, fields.next()?);
        let counter = match (fields.next().map(str::parse), moving) {
            (Some(Ok(counter)), _) => counter,
            (Some(Err(_)), Moving::Event) => return None,
            (Some(Err(_)), Moving::Time(_)) | (None, _) => 0,
        };
        Some(Self {
            kind,
            moving,
            digits,
            user,
            pin,
            key,
            counter,
            last: fields.next(),
            last_time: fields.next(),
        })
    }

    /// The line after the use of `code`, if it is right. `pin`: the PIN comes before it.
    pub(super) fn accept(&self, code: &[u8], pin: bool, now: DateTime<Local>) -> Result<String, Rejected> {
        let code = match self.pin {
            text if pin && text != "-" && text != "+" => {
                let (given, code) = code.split_at_checked(text.len()).ok_or(Rejected::Wrong)?;
                if !bool::from(given.ct_eq(text.as_bytes())) {
                    return Err(Rejected::Wrong);
                }
                code
            }
            _ => code,
        };
        let key = HEXLOWER_PERMISSIVE
            .decode(self.key.as_bytes())
            .map(Zeroizing::new)
            .map_err(|_| Rejected::Key)?;
        let counter = match self.moving {
            Moving::Event => self.event(&key, code),
            Moving::Time(step) => self.time(&key, code, now.timestamp(), step),
        };
        let counter = counter.ok_or(Rejected::Wrong)?;
        let code = String::from_utf8_lossy(code);
        let time = now.format(TIME_FORMAT);
        Ok(format!(
            "{}\t{}\t{}\t{}\t{counter}\t{code}\t{time}",
            self.kind, self.user, self.pin, self.key
        ))
    }

    /// The counter of an event based token: a later one than the last that was used.
    fn event(&self, key: &[u8], code: &[u8]) -> Option<u64> {
        let first = u64::try_from(self.counter).ok()?;
        let window = u64::try_from(WINDOW).ok()?;
        let used = u64::from(self.last.is_some());
        // An early counter may happen to have the last code, too.
        if self.last.is_some_and(|last| last.as_bytes() == code) {
            return None;
        }
        (first.checked_add(used)?..=first.checked_add(window)?)
            .find(|counter| is_code(key, *counter, self.digits, code))
    }

    /// The fifth field of a time based token, the sum of all distances from the server's clock.
    fn time(&self, key: &[u8], code: &[u8], now: i64, seconds: i64) -> Option<u64> {
        let around = |time: i64| {
            let step = time.div_euclid(seconds);
            step - WINDOW..=step + WINDOW
        };
        let is = |step: &i64, code: &[u8]| {
            u64::try_from(*step).is_ok_and(|step| is_code(key, step, self.digits, code))
        };
        // A clock that was set back makes no code good again: the last one is looked for where it was
        // used, too.
        let times = std::iter::once(now).chain(self.used_at());
        let used = self.last.and_then(|last| {
            let used = |time| around(time).rev().find(|step| is(step, last.as_bytes()));
            times.filter_map(used).max()
        });
        let mut fresh = around(now).filter(|step| used.is_none_or(|used| *step > used));
        let distance = fresh.find(|step| is(step, code))? - now.div_euclid(seconds);
        Some(self.counter.wrapping_add(distance.abs()).cast_unsigned())
    }

    /// The seventh field: none, one, or two times, where a local one comes twice.
    fn used_at(&self) -> impl Iterator<Item = i64> + use<> {
        let local = self
            .last_time
            .and_then(|text| NaiveDateTime::parse_from_str(text, TIME_FORMAT).ok())
            .map(|time| time.and_local_timezone(Local));
        let times = local.map(|local| [local.earliest(), local.latest()]);
        times.into_iter().flatten().flatten().map(|time| time.timestamp())
    }
}

/// What a type column means.
fn kind_of(text: &str) -> Option<(Moving, u32)> {
    let mut parts = text.split('/');
    if parts.next()? != "HOTP" {
        return None;
    }
    let moving = match parts.next() {
        None | Some("E") => Moving::Event,
        Some("T30") => Moving::Time(30),
        Some("T60") => Moving::Time(60),
        Some(_) => return None,
    };
    let digits = match parts.next() {
        None | Some("6") => 6,
        Some("7") => 7,
        Some("8") => 8,
        Some(_) => return None,
    };
    parts.next().is_none().then_some((moving, digits))
}
