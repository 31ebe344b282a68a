//! `show events` (`specs/server-tools.md` §3.10).

use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use culvert_sys::epoll::{Events, Interest, Poller};
use culvert_sys::signal::{SIGINT, SIGTERM, SignalFd};
use culvert_sys::term::KeyByKey;

use super::execute::{Outcome, Settings, now};
use super::users;
use crate::client::{ClientError, Conversation};
use crate::messages::{Connection, Reply, Request};

const SERVER: u64 = 0;
const KEYS: u64 = 1;
const SIGNALS: u64 = 2;

/// Prints the present users and then every event, until `q`, an interrupt, or the server's end.
pub(super) fn follow(settings: &Settings) -> Result<Outcome, ClientError> {
    let mut conversation = Conversation::begin(&settings.socket, &Request::Events)?;
    let connections: Vec<Connection> = conversation.list(|reply| match reply {
        Reply::User(connection) => Some(*connection),
        _ => None,
    })?;
    let table = if settings.json {
        users::json(&connections, now())
    } else {
        users::table(&connections, now())
    };
    if let Err(error) = print(&format!("{table}\nPress 'q' or CTRL+C to quit\n\n")) {
        return Ok(unread(&error));
    }

    let input = io::stdin();
    // keys only come from a terminal
    let keys = KeyByKey::new(input.as_fd()).ok();
    let outcome = wait(&mut conversation, settings.json, keys.is_some()).map_err(ClientError::NoAnswer)?;
    Ok(outcome)
}

fn wait(conversation: &mut Conversation, json: bool, keys: bool) -> io::Result<Outcome> {
    let signals = SignalFd::new(&[SIGINT, SIGTERM])?;
    let poller = Poller::new()?;
    poller.add(&*conversation, SERVER, Interest::READ)?;
    poller.add(&signals, SIGNALS, Interest::READ)?;
    if keys {
        poller.add(io::stdin(), KEYS, Interest::READ)?;
    }
    let mut events = Events::with_capacity(4);
    let outcome = 'events: loop {
        while let Ok(Some(reply)) = conversation.received() {
            if let Reply::Event(event) = reply {
                let text = if json {
                    users::event_json(&event, now())
                } else {
                    users::event_line(&event)
                };
                if let Err(error) = print(&text) {
                    break 'events unread(&error);
                }
            }
        }
        poller.wait(&mut events, None)?;
        let ready = |token| events.iter().any(|event| event.token == token);
        // read, so that unblocking does not deliver it again
        let interrupted = ready(SIGNALS) && signals.read()?.is_some();
        if interrupted || (ready(KEYS) && quit_pressed()?) {
            break Outcome::default();
        }
        if ready(SERVER)
            && let Err(error) = conversation.receive()
        {
            break Outcome {
                code: 1,
                err: format!("events: {error}\n"),
                ..Outcome::default()
            };
        }
    };
    culvert_sys::signal::unblock(&[SIGINT, SIGTERM])?;
    Ok(outcome)
}

/// Reads what was typed; the end of the input counts as quitting.
fn quit_pressed() -> io::Result<bool> {
    let mut typed = [0; 64];
    let length = io::stdin().lock().read(&mut typed)?;
    Ok(length == 0 || typed.iter().take(length).any(|key| matches!(key, b'q' | b'Q')))
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// The end when output does not get anywhere: a reader that has gone, as of `| head`, needs no word.
fn unread(error: &io::Error) -> Outcome {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Outcome::default();
    }
    Outcome {
        code: 1,
        err: format!("events: {error}\n"),
        ..Outcome::default()
    }
}
