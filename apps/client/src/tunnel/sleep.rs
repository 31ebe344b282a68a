//! The end of a sleep of the machine, as logind tells it. Without logind the clock tells it, when the
//! session looks at it next.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::thread;

use zbus::MatchRule;
use zbus::blocking::{Connection, MessageIterator};

const SERVICE: &str = "org.freedesktop.login1";
const OBJECT: &str = "/org/freedesktop/login1";
const INTERFACE: &str = "org.freedesktop.login1.Manager";
/// With `true` before a sleep, with `false` after it.
const SIGNAL: &str = "PrepareForSleep";
/// News that nobody has taken yet; more say nothing new.
const NEWS_MAX: usize = 64;

/// Readable after a sleep.
#[derive(Debug)]
pub(super) struct Wakings {
    news: UnixStream,
    /// Without it the end of the thread would be news.
    _open: UnixStream,
}

impl Wakings {
    /// Listens on the system bus, on a thread of its own that ends with the bus or the process.
    pub(super) fn listen() -> io::Result<Self> {
        let (news, teller) = UnixStream::pair()?;
        news.set_nonblocking(true)?;
        teller.set_nonblocking(true)?;
        let open = teller.try_clone()?;
        thread::Builder::new()
            .name("logind".into())
            // A host without bus or logind has no news.
            .spawn(move || drop(tell(&teller)))?;
        Ok(Self { news, _open: open })
    }

    /// True if there was one since the last call.
    pub(super) fn take(&self) -> bool {
        let mut news = [0; NEWS_MAX];
        matches!((&self.news).read(&mut news), Ok(count) if count > 0)
    }
}

impl AsFd for Wakings {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.news.as_fd()
    }
}

fn tell(mut teller: &UnixStream) -> zbus::Result<()> {
    let bus = Connection::system()?;
    let rule = MatchRule::builder()
        .msg_type(zbus::message::Type::Signal)
        .sender(SERVICE)?
        .path(OBJECT)?
        .interface(INTERFACE)?
        .member(SIGNAL)?
        .build();
    for message in MessageIterator::for_match_rule(rule, &bus, None)? {
        let before: bool = message?.body().deserialize()?;
        // Full: there is news already. Closed: the tunnel is over.
        if !before
            && let Err(error) = teller.write(&[1])
            && error.kind() != io::ErrorKind::WouldBlock
        {
            break;
        }
    }
    Ok(())
}
