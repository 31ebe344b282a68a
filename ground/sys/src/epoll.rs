//! The event loop: readiness of descriptors, with a deadline.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::cvt::cvt;

/// What a registration waits for. Errors and hang-ups are always reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interest {
    /// Data (or a connection, or the end of file) can be read.
    pub readable: bool,
    /// Data can be written.
    pub writable: bool,
}

impl Interest {
    /// Nothing but errors and hang-ups.
    pub const NONE: Self = Self {
        readable: false,
        writable: false,
    };
    /// Reading.
    pub const READ: Self = Self {
        readable: true,
        writable: false,
    };
    /// Writing.
    pub const WRITE: Self = Self {
        readable: false,
        writable: true,
    };

    fn flags(self) -> u32 {
        let mut flags = 0;
        if self.readable {
            flags |= libc::EPOLLIN | libc::EPOLLRDHUP;
        }
        if self.writable {
            flags |= libc::EPOLLOUT;
        }
        flags.cast_unsigned()
    }
}

/// Readiness of one registered descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// The token it was registered with.
    pub token: u64,
    /// A read will not block (data, end of file or an error).
    pub readable: bool,
    /// A write will not block.
    pub writable: bool,
    /// The peer is gone or the descriptor has an error pending.
    pub hangup: bool,
}

/// Waits for many descriptors at once; level-triggered.
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
}

/// Room for the results of one wait; belongs to the process and is used again and again.
pub struct Events {
    raw: Vec<libc::epoll_event>,
    ready: usize,
}

impl Events {
    /// Room for `capacity` events per wait (at least one).
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            raw: vec![libc::epoll_event { events: 0, u64: 0 }; capacity.max(1)],
            ready: 0,
        }
    }

    /// The events of the last wait.
    pub fn iter(&self) -> impl Iterator<Item = Event> + '_ {
        self.raw.iter().take(self.ready).map(|raw| {
            let flags = raw.events.cast_signed();
            let hangup = flags & (libc::EPOLLHUP | libc::EPOLLERR) != 0;
            Event {
                token: raw.u64,
                readable: hangup || flags & (libc::EPOLLIN | libc::EPOLLRDHUP) != 0,
                writable: hangup || flags & libc::EPOLLOUT != 0,
                hangup,
            }
        })
    }

    /// The `index`-th event of the last wait.
    pub fn get(&self, index: usize) -> Option<Event> {
        self.iter().nth(index)
    }

    /// How many events the last wait found.
    pub fn len(&self) -> usize {
        self.ready
    }

    /// True when the last wait ended by its deadline.
    pub fn is_empty(&self) -> bool {
        self.ready == 0
    }
}

impl Poller {
    /// A poller without registrations.
    ///
    /// # Errors
    /// Descriptors are used up.
    pub fn new() -> io::Result<Self> {
        // SAFETY: epoll_create1 has no preconditions.
        let fd = cvt(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the descriptor is fresh and owned by nobody else.
        Ok(Self {
            epoll: unsafe { OwnedFd::from_raw_fd(fd) },
        })
    }

    /// Registers a descriptor. Closing its last duplicate removes it.
    ///
    /// # Errors
    /// It is registered already, or cannot be polled (a regular file).
    pub fn add(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, interest)
    }

    /// Changes what a registered descriptor waits for.
    ///
    /// # Errors
    /// It is not registered.
    pub fn modify(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, interest)
    }

    /// Removes a descriptor.
    ///
    /// # Errors
    /// It is not registered.
    pub fn delete(&self, fd: impl AsFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, Interest::NONE)
    }

    /// Makes a registered stream socket wait for nothing but the end of what its peer sends.
    ///
    /// # Errors
    /// It is not registered.
    pub fn watch_for_end(&self, fd: impl AsFd, token: u64) -> io::Result<()> {
        self.control_flags(libc::EPOLL_CTL_MOD, fd, token, libc::EPOLLRDHUP.cast_unsigned())
    }

    /// Waits until something is ready or the deadline has passed (`None`: for ever). A signal
    /// ends the wait without events.
    ///
    /// # Errors
    /// None in practice.
    pub fn wait(&self, events: &mut Events, deadline: Option<Instant>) -> io::Result<()> {
        let timeout = deadline.map_or(-1, |deadline| {
            milliseconds(deadline.saturating_duration_since(Instant::now()))
        });
        let capacity = i32::try_from(events.raw.len()).unwrap_or(i32::MAX);
        events.ready = 0;
        // SAFETY: `raw` has room for `capacity` events.
        let ready = cvt(unsafe {
            libc::epoll_wait(self.epoll.as_raw_fd(), events.raw.as_mut_ptr(), capacity, timeout)
        });
        match ready {
            Ok(ready) => events.ready = usize::try_from(ready).unwrap_or(0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn control(&self, operation: i32, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control_flags(operation, fd, token, interest.flags())
    }

    fn control_flags(&self, operation: i32, fd: impl AsFd, token: u64, flags: u32) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: flags,
            u64: token,
        };
        // SAFETY: `event` outlives the call.
        cvt(unsafe {
            libc::epoll_ctl(
                self.epoll.as_raw_fd(),
                operation,
                fd.as_fd().as_raw_fd(),
                &raw mut event,
            )
        })?;
        Ok(())
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

/// Rounded up, so that a deadline has passed when the wait returns.
fn milliseconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn reports_readiness_and_deadline() {
        let (mut near, far) = UnixStream::pair().unwrap();
        let poller = Poller::new().unwrap();
        let mut events = Events::with_capacity(4);
        poller.add(&far, 7, Interest::READ).unwrap();
        let deadline = Instant::now() + Duration::from_millis(5);
        poller.wait(&mut events, Some(deadline)).unwrap();
        assert!(events.is_empty());
        assert!(Instant::now() >= deadline);

        near.write_all(b"x").unwrap();
        poller.wait(&mut events, None).unwrap();
        let event = events.get(0).unwrap();
        assert_eq!(
            (event.token, event.readable, event.writable, event.hangup),
            (7, true, false, false)
        );

        poller.modify(&far, 8, Interest::WRITE).unwrap();
        poller.wait(&mut events, None).unwrap();
        assert_eq!(
            events.get(0).map(|event| (event.token, event.writable)),
            Some((8, true))
        );

        poller.delete(&far).unwrap();
        poller.wait(&mut events, Some(Instant::now())).unwrap();
        assert_eq!(events.len(), 0);
    }

    #[test]
    fn a_vanished_peer_is_a_hangup() {
        let (near, far) = UnixStream::pair().unwrap();
        let poller = Poller::new().unwrap();
        let mut events = Events::with_capacity(4);
        poller.add(&far, 1, Interest::NONE).unwrap();
        drop(near);
        poller.wait(&mut events, None).unwrap();
        assert!(events.get(0).unwrap().hangup);
    }

    #[test]
    fn the_end_is_reported_and_data_is_not() {
        let (mut near, far) = UnixStream::pair().unwrap();
        let poller = Poller::new().unwrap();
        let mut events = Events::with_capacity(4);
        poller.add(&far, 1, Interest::READ).unwrap();
        poller.watch_for_end(&far, 1).unwrap();
        near.write_all(b"x").unwrap();
        poller
            .wait(&mut events, Some(Instant::now() + Duration::from_millis(5)))
            .unwrap();
        assert!(events.is_empty());
        near.shutdown(std::net::Shutdown::Write).unwrap();
        poller.wait(&mut events, None).unwrap();
        assert!(events.get(0).unwrap().readable);
    }
}
