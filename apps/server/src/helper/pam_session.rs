//! PAM sessions (`pam[session=true]`, `specs/server-auth.md` §2.3): the process whose modules have let the
//! user in stays for his session, so that they find what they have remembered of his login.

use culvert_pam::{PamError, Transaction, Verdict};
use culvert_sys::process;

use super::Outcome;
use super::messages::{Accepted, BrokerToHelper, HelperToBroker};
use super::pam::Questions;
use crate::ipc::messages::LogLevel;

/// Tells the broker that the user is accepted, opens a session when it says so, and closes it when it
/// says that or has gone. `authenticated`: in this transaction.
pub(super) fn hold(
    transaction: &mut Transaction<'_>,
    accepted: Accepted,
    authenticated: bool,
    questions: &Questions<'_>,
) -> Outcome {
    questions.mute();
    // The broker's end must not be that of this process: there may be a session to close. The thread
    // that watches the channel ends it.
    let stays = process::outlive_parent()
        .map_err(|error| error.to_string())
        .and_then(|()| {
            questions
                .with_talk(|talk| talk.stay(accepted))
                .map_err(|gone| gone.to_string())
        });
    if let Err(problem) = stays {
        return Outcome::Unavailable(problem);
    }
    if next(questions) != Some(BrokerToHelper::OpenSession) {
        return Outcome::SessionNotOpened;
    }
    if let Err(error) = open(transaction, authenticated, questions) {
        return match error {
            PamError::Status(status) if status.verdict() != Verdict::Failed => {
                Outcome::Refused(Some(status.to_string()))
            }
            error => Outcome::Unavailable(error.to_string()),
        };
    }
    // If the broker has gone, the next message says so.
    let _gone = questions.with_talk(|talk| talk.send(&HelperToBroker::SessionOpened));
    let _close_or_gone = next(questions);
    close(transaction, questions)
}

/// Tells the modules that the session has ended.
pub(super) fn close(transaction: &mut Transaction<'_>, questions: &Questions<'_>) -> Outcome {
    for (what, result) in [
        ("close the session", transaction.close_session()),
        ("delete the credentials", transaction.delete_credentials()),
    ] {
        if let Err(error) = result {
            let text = format!("the modules cannot {what}: {error}");
            questions.with_talk(|talk| talk.log(LogLevel::Warning, &text));
        }
    }
    Outcome::SessionClosed
}

fn next(questions: &Questions<'_>) -> Option<BrokerToHelper> {
    questions.with_talk(|talk| talk.next())
}

fn open(
    transaction: &mut Transaction<'_>,
    authenticated: bool,
    questions: &Questions<'_>,
) -> Result<(), PamError> {
    match transaction.establish_credentials() {
        Ok(()) => {}
        // Modules that did not authenticate the user may have nothing for him.
        Err(error) if !authenticated => {
            let text = format!("the modules have no credentials for a session that goes on: {error}");
            questions.with_talk(|talk| talk.log(LogLevel::Info, &text));
        }
        Err(error) => return Err(error),
    }
    transaction.open_session().inspect_err(|_| {
        // The session's refusal is what counts.
        let _none_left = transaction.delete_credentials();
    })
}
