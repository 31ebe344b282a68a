//! The records of who is logged in (`utmp`) and who was (`wtmp`), through libc.

use std::ffi::{CStr, c_char, c_short};
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use libc::{DEAD_PROCESS, USER_PROCESS, endutxent, pututxline, setutxent, utmpx};

/// Where libc keeps the past.
const WTMP: &CStr = c"/var/log/wtmp";
/// Where libc keeps the present.
const UTMP: &str = "/var/run/utmp";

/// libc's functions share one position in the file.
static LOCK: Mutex<()> = Mutex::new(());

unsafe extern "C" {
    fn updwtmpx(file: *const c_char, entry: *const utmpx);
}

/// A login, for both records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// Name of the terminal, or of what stands for it. At most 31 octets are kept.
    pub line: String,
    /// Process that serves it.
    pub pid: i32,
    /// The user. At most 31 octets are kept.
    pub user: String,
    /// Where the user comes from.
    pub host: IpAddr,
}

impl Login {
    /// Notes the beginning. May wait for the files' locks.
    ///
    /// # Errors
    /// The record of the present exists and cannot be written. A record that does not exist is not
    /// kept.
    pub fn begin(&self) -> io::Result<()> {
        write(&entry(self, USER_PROCESS))
    }

    /// Notes the end. May wait for the files' locks.
    ///
    /// # Errors
    /// See [`Self::begin`].
    pub fn end(&self) -> io::Result<()> {
        let mut entry = entry(self, DEAD_PROCESS);
        entry.ut_user = [0; 32];
        entry.ut_host = [0; 256];
        write(&entry)
    }
}

fn entry(login: &Login, kind: c_short) -> utmpx {
    // SAFETY: `utmpx` consists of integers and arrays of them, for which zero is a value.
    let mut entry: utmpx = unsafe { std::mem::zeroed() };
    entry.ut_type = kind;
    entry.ut_pid = login.pid;
    fill(&mut entry.ut_line, &login.line);
    // The end of the name tells terminals apart, as login programs have it.
    let id: String = login
        .line
        .chars()
        .rev()
        .take(4)
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .collect();
    fill(&mut entry.ut_id, &id);
    fill(&mut entry.ut_user, &login.user);
    fill(&mut entry.ut_host, &login.host.to_string());
    let octets = match login.host {
        IpAddr::V4(address) => {
            let mut octets = [0; 16];
            octets[..4].copy_from_slice(&address.octets());
            octets
        }
        IpAddr::V6(address) => address.octets(),
    };
    for (word, octets) in entry.ut_addr_v6.iter_mut().zip(octets.chunks_exact(4)) {
        *word = i32::from_ne_bytes([octets[0], octets[1], octets[2], octets[3]]);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    entry.ut_tv.tv_sec = now.as_secs().try_into().unwrap_or_default();
    entry.ut_tv.tv_usec = now.subsec_micros().try_into().unwrap_or_default();
    entry
}

/// Puts text into a field; room for the NUL that readers expect stays, but in the identifier.
fn fill(field: &mut [c_char], text: &str) {
    let most = if field.len() > 4 {
        field.len() - 1
    } else {
        field.len()
    };
    for (to, from) in field.iter_mut().take(most).zip(text.bytes()) {
        *to = c_char::from_ne_bytes([from]);
    }
}

fn write(entry: &utmpx) -> io::Result<()> {
    let _one_at_a_time = LOCK.lock();
    // SAFETY: the file name ends with NUL, and `entry` is complete. A file that is not there is
    // not made.
    unsafe { updwtmpx(WTMP.as_ptr(), entry) };
    if !Path::new(UTMP).exists() {
        return Ok(());
    }
    // SAFETY: `entry` is complete, and the lock keeps other threads out of libc's state.
    unsafe {
        setutxent();
        let written = pututxline(entry);
        let error = io::Error::last_os_error();
        endutxent();
        if written.is_null() { Err(error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(field: &[c_char]) -> String {
        let octets: Vec<u8> = field.iter().map(|octet| octet.to_ne_bytes()[0]).collect();
        let end = octets
            .iter()
            .position(|octet| *octet == 0)
            .unwrap_or(octets.len());
        String::from_utf8_lossy(&octets[..end]).into_owned()
    }

    #[test]
    fn fields_of_an_entry() {
        let login = Login {
            line: "vpns12".into(),
            pid: 77,
            user: "a".repeat(40),
            host: "192.0.2.7".parse().unwrap(),
        };
        let entry = entry(&login, USER_PROCESS);
        assert_eq!((entry.ut_type, entry.ut_pid), (USER_PROCESS, 77));
        assert_eq!(text(&entry.ut_line), "vpns12");
        assert_eq!(text(&entry.ut_id), "ns12");
        assert_eq!(text(&entry.ut_user), "a".repeat(31));
        assert_eq!(text(&entry.ut_host), "192.0.2.7");
        assert_eq!(entry.ut_addr_v6[0].to_ne_bytes(), [192, 0, 2, 7]);
        assert!(entry.ut_tv.tv_sec > 1_700_000_000);
    }
}
