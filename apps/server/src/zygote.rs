//! The zygote: clones workers. It holds no secret, no thread and no listener, and has given up all
//! privileges before the first client arrives.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::process::ExitCode;

use culvert_sys::channel::Channel;
use culvert_sys::process::{self, Fork, Resource};
use culvert_sys::signal::SIGKILL;

use crate::confine;
use crate::ipc::fields::Text;
use crate::ipc::link::{Blocking, LinkError};
use crate::ipc::messages::{LogLevel, MainToZygote, SpawnRequest, ZygoteToMain};
use crate::ipc::snapshot::Snapshot;
use crate::worker;

/// What a process counts as having when the system does not say.
const UNKNOWN_DATA: u64 = 256 << 20;
/// Longest snapshot, in octets.
const SNAPSHOT_MAX: usize = 64 << 20;
/// Enough of `/proc/PID/status`, in octets.
const STATUS_MAX: usize = 4096;
/// Name of a pool process.
const POOL_TITLE: &str = "ocserv-pool";

/// How a process that began as the zygote goes on.
enum Next {
    /// Main has closed the channel.
    Over,
    /// This is a clone: the worker of a connection.
    Worker(Box<NewWorker>),
    /// This is a clone: a process of the pool, and the octets of data that it had then.
    Pool(Snapshot, Vec<OwnedFd>, u64),
}

/// What a clone that is to serve a connection begins with.
struct NewWorker {
    snapshot: Snapshot,
    request: SpawnRequest,
    descriptors: Vec<OwnedFd>,
    /// Octets of data that it had when it was cloned.
    data: u64,
}

/// Runs the zygote until main closes its channel.
pub(crate) fn run(channel: OwnedFd) -> ExitCode {
    let main = Blocking::new(Channel::from_fd(channel));
    match serve(&main) {
        Ok(Next::Over) => ExitCode::SUCCESS,
        Ok(Next::Worker(new)) => {
            // The channel on which main takes the zygote's word is not for workers.
            drop(main);
            worker_life(*new)
        }
        Ok(Next::Pool(snapshot, descriptors, data)) => {
            drop(main);
            pool_life(&snapshot, descriptors, data)
        }
        Err(error) => {
            let text = Text::truncated(&format!("zygote: {error}"));
            let _main_gone = main.send(
                &ZygoteToMain::Log {
                    level: LogLevel::Error,
                    text,
                },
                &[],
            );
            ExitCode::FAILURE
        }
    }
}

fn serve(main: &Blocking) -> Result<Next, LinkError> {
    let mut snapshot: Option<Snapshot> = None;
    let mut pieces = Vec::new();
    // Before the root changes. Clones have what they had when they were made.
    let status = File::open("/proc/self/status").ok();
    loop {
        let Some((message, descriptors)) = main.receive::<MainToZygote>(None)? else {
            return Ok(Next::Over);
        };
        let data = status.as_ref().map_or(UNKNOWN_DATA, data_size);
        match message {
            MainToZygote::Confine { uid, gid, root } => {
                confine::zygote(main, uid, gid, root.as_ref().map(Text::as_str))?;
                main.send(&ZygoteToMain::Ready, &[])?;
            }
            MainToZygote::Snapshot { piece, last } => {
                pieces.extend_from_slice(piece.as_slice());
                if pieces.len() > SNAPSHOT_MAX {
                    return Err(crate::ipc::Malformed::Oversize(pieces.len()).into());
                }
                if last {
                    snapshot = Some(postcard::from_bytes(&pieces).map_err(crate::ipc::Malformed::Encoding)?);
                    pieces = Vec::new();
                }
            }
            MainToZygote::Spawn(request) => {
                if snapshot.is_none() {
                    fail(main, &request, "no configuration yet")?;
                    continue;
                }
                match process::clone_into_parent() {
                    Ok(Fork::Parent(pid)) => {
                        let pid = pid.unsigned_abs();
                        main.send(&ZygoteToMain::Spawned { id: request.id, pid }, &[])?;
                    }
                    Ok(Fork::Child) => {
                        return Ok(snapshot.take().map_or(Next::Over, |snapshot| {
                            Next::Worker(Box::new(NewWorker {
                                snapshot,
                                request,
                                descriptors,
                                data,
                            }))
                        }));
                    }
                    Err(error) => fail(main, &request, &error.to_string())?,
                }
            }
            MainToZygote::SpawnPool(number) => match process::clone_into_parent() {
                Ok(Fork::Parent(pid)) => {
                    let pid = pid.unsigned_abs();
                    main.send(&ZygoteToMain::PoolSpawned { number, pid }, &[])?;
                }
                Ok(Fork::Child) => {
                    return Ok(snapshot
                        .take()
                        .map_or(Next::Over, |snapshot| Next::Pool(snapshot, descriptors, data)));
                }
                // Its channel closes here, and so main learns of it.
                Err(error) => {
                    let text = Text::truncated(&format!("cannot start a pool process: {error}"));
                    let level = LogLevel::Error;
                    main.send(&ZygoteToMain::Log { level, text }, &[])?;
                }
            },
        }
    }
}

/// The rest of a pool process's life.
fn pool_life(snapshot: &Snapshot, descriptors: Vec<OwnedFd>, data: u64) -> ExitCode {
    // As of a worker, see there.
    let _best_effort = process::set_parent_death_signal(SIGKILL);
    let _best_effort = process::set_limit(Resource::Processes, 0);
    let _cosmetic = process::set_title(POOL_TITLE);
    if let Some(limit) = snapshot.pool_memory_limit {
        let _best_effort = process::set_limit(Resource::Data, data + limit);
    }
    let Some(main) = descriptors.into_iter().next() else {
        return ExitCode::FAILURE;
    };
    let main = Blocking::new(Channel::from_fd(main));
    confine::pool(&main, snapshot.isolate_workers);
    worker::run_pool(snapshot, main);
    ExitCode::SUCCESS
}

fn fail(main: &Blocking, request: &SpawnRequest, why: &str) -> Result<(), LinkError> {
    main.send(
        &ZygoteToMain::SpawnFailed {
            id: request.id,
            why: Text::truncated(why),
        },
        &[],
    )
}

/// The rest of a worker's life.
fn worker_life(new: NewWorker) -> ExitCode {
    let NewWorker {
        snapshot,
        request,
        descriptors,
        data,
    } = new;
    // Main's end means ours, at once and without a goodbye: the session goes on with the next server.
    // Should it have ended before this call, its channel says so.
    let _best_effort = process::set_parent_death_signal(SIGKILL);
    let _best_effort = process::set_limit(Resource::Processes, 0);
    if let Some(limit) = snapshot.memory_limit {
        let _best_effort = process::set_limit(Resource::Data, data + limit);
    }
    let mut descriptors = descriptors.into_iter();
    let (Some(tcp), Some(main), Some(broker)) = (descriptors.next(), descriptors.next(), descriptors.next())
    else {
        return ExitCode::FAILURE;
    };
    let links = worker::Links {
        tcp,
        main: Blocking::new(Channel::from_fd(main)),
        broker: Blocking::new(Channel::from_fd(broker)),
    };
    confine::worker(&links.main, snapshot.isolate_workers);
    worker::run(&snapshot, &request, links);
    ExitCode::SUCCESS
}

/// Octets of data that the process has whose `/proc/PID/status` this is.
fn data_size(status: &File) -> u64 {
    let mut text = [0; STATUS_MAX];
    let read = status.read_at(&mut text, 0).unwrap_or(0);
    let text = String::from_utf8_lossy(text.get(..read).unwrap_or_default());
    let line = text.lines().find_map(|line| line.strip_prefix("VmData:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kilobytes.map_or(UNKNOWN_DATA, |kilobytes| kilobytes * 1024)
}
