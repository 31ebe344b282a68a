//! GSSAPI (`specs/server-auth.md` §2.5): the tickets of clients, judged by the system's library. It reads
//! what strangers send, so it does that as `run-as-user`, with a copy of the keytab in memory.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::fchown;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use culvert_gssapi::{Accepted as Ticket, Acceptor, Channel as Names, Credentials, GssError, Step};
use culvert_sys::files;
use culvert_sys::sandbox::Helper;
use culvert_vocab::{SecretString, UserName};
use data_encoding::BASE64;
use zeroize::Zeroizing;

use super::confine::Unprivileged;
use super::messages::{Accepted, Channel, GssapiSettings, HelperToBroker, Login};
use super::talk::{Gone, Talk};
use super::{Outcome, confine, groups};
use crate::ipc::SecretText;
use crate::ipc::messages::LogLevel;

/// Most tokens of a client in one login.
const LEGS_MAX: u8 = 8;
/// Where the keys are that no one has named.
const DEFAULT_KEYTAB: &str = "/etc/krb5.keytab";
/// Names another place for them.
const DEFAULT_KEYTAB_VARIABLE: &str = "KRB5_KTNAME";
/// Largest keytab.
const KEYTAB_MAX: u64 = 1 << 20;
/// First octet of every keytab.
const KEYTAB_MAGIC: u8 = 5;

/// The keytab that is used with this setting.
pub(crate) fn keytab_path(configured: Option<&Path>) -> PathBuf {
    let default = || {
        let named = std::env::var(DEFAULT_KEYTAB_VARIABLE).unwrap_or_default();
        let path = named.strip_prefix("FILE:").unwrap_or(&named);
        PathBuf::from(if path.is_empty() { DEFAULT_KEYTAB } else { path })
    };
    configured.map_or_else(default, Path::to_owned)
}

/// Reads a keytab.
///
/// # Errors
/// There is none that could be used.
pub(crate) fn read_keytab(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let is_none = || io::Error::new(io::ErrorKind::InvalidData, "this is no keytab");
    if fs::metadata(path)?.len() > KEYTAB_MAX {
        return Err(is_none());
    }
    let content = Zeroizing::new(fs::read(path)?);
    match content.as_slice() {
        [KEYTAB_MAGIC, _, _, ..] => Ok(content),
        _ => Err(is_none()),
    }
}

/// A login with a ticket.
pub(super) fn log_in(settings: &GssapiSettings, login: &Login, talk: &mut Talk) -> Result<Outcome, Gone> {
    let (_keytab, credentials) = match prepare(settings, login.rights, talk) {
        Ok(prepared) => prepared,
        Err(problem) => return Ok(Outcome::Unavailable(problem)),
    };
    let mut acceptor = Acceptor::new(&credentials, login.caller.channel.as_ref().map(names));
    let mut answer = None;
    for _ in 0..LEGS_MAX {
        let token = talk.challenge(answer)?;
        let step = match take(&mut acceptor, &token) {
            Ok(step) => step,
            Err(error) => return Ok(Outcome::Refused(Some(error.to_string()))),
        };
        let text = SecretString::new(BASE64.encode(&step.token));
        if let Some(ticket) = acceptor.accepted() {
            let last = (!step.token.is_empty()).then_some(text);
            return Ok(judge(settings, &ticket, last));
        }
        answer = Some(text);
    }
    Ok(Outcome::Refused(Some("too many tokens".to_owned())))
}

/// What names the client's TLS connection, as GSSAPI takes it.
fn names(channel: &Channel) -> Names {
    let end_point = channel.end_point.as_ref();
    Names {
        unique: channel.unique.name(),
        end_point: end_point.map(|value| [b"tls-server-end-point:", value.as_slice()].concat()),
    }
}

/// Loads library and keys, and gives up root.
fn prepare(
    settings: &GssapiSettings,
    rights: Unprivileged,
    talk: &Talk,
) -> Result<(File, Credentials), String> {
    let path = keytab_path(settings.keytab.as_deref());
    let copy = || {
        let content = read_keytab(&path)?;
        let mut copy = files::in_memory(c"keytab")?;
        copy.write_all(&content)?;
        fchown(&copy, Some(rights.uid), Some(rights.gid))?;
        Ok(copy)
    };
    let keytab: File = copy().map_err(|error: io::Error| format!("keytab '{}': {error}", path.display()))?;
    let log = |text: &str| talk.log(LogLevel::Error, text);
    let forbidden = HelperToBroker::Forbidden([0; 4]);
    // It may write files, because the library keeps a replay cache.
    confine::unprivileged(rights, Helper::Library, talk.channel(), &forbidden, &log)
        .map_err(|error| format!("cannot give up root: {error}"))?;
    let own = PathBuf::from(format!("/proc/self/fd/{}", keytab.as_raw_fd()));
    let credentials =
        Credentials::load(Some(&own)).map_err(|error| format!("keytab '{}': {error}", path.display()))?;
    Ok((keytab, credentials))
}

fn take(acceptor: &mut Acceptor<'_>, token: &SecretString) -> Result<Step, GssError> {
    let token = BASE64
        .decode(token.expose().trim().as_bytes())
        .map(Zeroizing::new)
        .map_err(|_| GssError::Token("a token that is no base64"))?;
    acceptor.step(&token)
}

/// Whether the user of a ticket may log in, and as whom.
fn judge(settings: &GssapiSettings, ticket: &Ticket<'_>, last: Option<SecretString>) -> Outcome {
    let named = ticket.principal().and_then(|principal| {
        let name = match settings.require_local_user_map {
            true => ticket.local_user()?,
            false => principal.clone(),
        };
        Ok((principal, name))
    });
    let (principal, name) = match named {
        Ok(named) => named,
        Err(error) => return Outcome::Refused(Some(error.to_string())),
    };
    let refused = |why: &str| Outcome::Refused(Some(format!("{principal}: {why}")));
    if let Some(freshness) = settings.tgt_freshness {
        match ticket.auth_time() {
            Ok(time) if time + freshness >= SystemTime::now() => {}
            Ok(_) => return refused("the ticket is too old (tgt-freshness-time)"),
            Err(error) => return refused(&error.to_string()),
        }
    }
    let Ok(user) = UserName::new(&name) else {
        return refused("a name that no user can have");
    };
    let Ok(token) = last.map(SecretText::new).transpose() else {
        return refused("the library's answer is too long");
    };
    let groups = groups::of_system(user.as_str());
    Outcome::Accepted(Accepted {
        token,
        ..Accepted::new(user, groups)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keytabs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keytab");
        assert_eq!(keytab_path(Some(&path)), path);
        let kind = |content: Option<&[u8]>| {
            if let Some(content) = content {
                fs::write(&path, content).unwrap();
            }
            read_keytab(&path).map(|_| ()).map_err(|error| error.kind())
        };
        assert_eq!(kind(None), Err(io::ErrorKind::NotFound));
        assert_eq!(kind(Some(b"\x05\x02\0")), Ok(()));
        for bad in [&b""[..], b"\x05\x02", b"# a comment"] {
            assert_eq!(kind(Some(bad)), Err(io::ErrorKind::InvalidData));
        }
        File::options()
            .write(true)
            .open(&path)
            .and_then(|file| file.set_len(KEYTAB_MAX + 1))
            .unwrap();
        assert_eq!(kind(None), Err(io::ErrorKind::InvalidData));
    }
}
