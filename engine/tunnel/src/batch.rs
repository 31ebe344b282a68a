//! Sealed packets waiting for one or few system calls.

use std::ops::Range;

use culvert_record::{FrameKind, PacketSealer, SealError};

/// Octets of a batch.
const CAPACITY: usize = 128 * 1024;
/// Octets that data packets leave free, so that control frames always fit while a socket is
/// blocked.
const RESERVE: usize = 8 * 1024;
/// Most data records in a batch.
const PACKETS_MAX: usize = 256;
/// Most records in a batch: data and the control frames after it.
const RECORDS_MAX: usize = PACKETS_MAX + 256;
/// Octets that a super-packet takes once it is split and sealed, with ordinary segment sizes.
const SUPER_PACKET: usize = 72 * 1024;

/// Records one behind the other, as they are sent.
#[derive(Debug)]
pub(crate) struct Batch {
    bytes: Box<[u8]>,
    /// Octets in use.
    len: usize,
    /// Octets sent already (streams).
    sent: usize,
    /// Records not sent yet (datagrams), in order; the first begins at `sent`.
    records: Vec<Record>,
    /// Octets and records that are complete: only these are ever sent.
    complete: Complete,
}

/// How much of a [`Batch`] is complete (see [`PacketSealer::complete`]).
#[derive(Debug, Clone, Copy, Default)]
struct Complete {
    len: usize,
    records: usize,
}

/// One datagram of a [`Batch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Record {
    len: usize,
    type_of_service: Option<u8>,
}

/// Records of equal length (the last possibly shorter) that one system call can send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) bytes: Range<usize>,
    pub(crate) segment: usize,
    pub(crate) type_of_service: Option<u8>,
    pub(crate) records: usize,
}

impl Batch {
    pub(crate) fn new() -> Self {
        Self {
            bytes: vec![0; CAPACITY].into(),
            len: 0,
            sent: 0,
            records: Vec::with_capacity(RECORDS_MAX),
            complete: Complete::default(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sent == self.len
    }

    pub(crate) fn clear(&mut self) {
        (self.len, self.sent) = (0, 0);
        self.records.clear();
        self.complete = Complete::default();
    }

    /// Octets not sent yet.
    pub(crate) fn unsent(&self) -> &[u8] {
        &self.bytes[self.sent..self.complete.len]
    }

    /// Completes what was sealed since the last call, with the same sealer. Before that it is not
    /// sent.
    pub(crate) fn complete(&mut self, sealer: &mut impl PacketSealer) {
        let Complete { len, records } = self.complete;
        if let (Some(bytes), Some(records)) = (self.bytes.get_mut(len..self.len), self.records.get(records..))
        {
            sealer.complete(bytes, &mut records.iter().map(|record| record.len));
        }
        self.complete = Complete {
            len: self.len,
            records: self.records.len(),
        };
    }

    pub(crate) fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.bytes.get(range).unwrap_or_default()
    }

    /// Notes that `octets` of [`Self::unsent`] are on their way.
    pub(crate) fn advance(&mut self, octets: usize) {
        self.sent = (self.sent + octets).min(self.len);
        if self.is_empty() {
            self.clear();
        }
    }

    /// True when another super-packet may not fit.
    pub(crate) fn wants_flush(&self) -> bool {
        self.len + SUPER_PACKET > CAPACITY - RESERVE || self.records.len() + 64 > PACKETS_MAX
    }

    /// True when a data packet of `len` octets should wait for the next batch.
    pub(crate) fn is_full(&self, sealer: &impl PacketSealer, len: usize) -> bool {
        self.records.len() >= PACKETS_MAX
            || self.len + sealer.headroom() + len + sealer.tailroom() > CAPACITY - RESERVE
    }

    /// Seals one frame behind the others, up to [`Self::complete`]. `write` puts the payload of `len` octets into the
    /// slice that it is given.
    pub(crate) fn seal(
        &mut self,
        sealer: &mut impl PacketSealer,
        kind: FrameKind,
        len: usize,
        type_of_service: Option<u8>,
        write: impl FnOnce(&mut [u8]),
    ) -> Result<(), SealError> {
        let headroom = sealer.headroom();
        let room = headroom + len + sealer.tailroom();
        if self.records.len() >= RECORDS_MAX {
            return Err(SealError::Buffer);
        }
        let buffer = self
            .bytes
            .get_mut(self.len..self.len + room)
            .ok_or(SealError::Buffer)?;
        write(&mut buffer[headroom..headroom + len]);
        let sealed = sealer.prepare(kind, buffer, len)?;
        self.records.push(Record {
            len: sealed,
            type_of_service,
        });
        self.len += sealed;
        Ok(())
    }

    /// Appends octets that are no record of a datagram channel (a key update in a stream).
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), SealError> {
        let room = self
            .bytes
            .get_mut(self.len..self.len + bytes.len())
            .ok_or(SealError::Buffer)?;
        room.copy_from_slice(bytes);
        self.len += bytes.len();
        Ok(())
    }

    /// The records that the next system call can send, at most `limit`.
    pub(crate) fn next_run(&self, limit: usize) -> Option<Run> {
        let first = self.records.first().filter(|_| self.complete.records > 0)?;
        let (mut octets, mut count) = (0, 0);
        for record in self.records.iter().take(limit.min(self.complete.records)) {
            let fits = record.len <= first.len
                && record.type_of_service == first.type_of_service
                && octets + record.len <= culvert_sys::udp::SEND_MAX.max(first.len);
            if !fits {
                break;
            }
            octets += record.len;
            count += 1;
            if record.len < first.len {
                break;
            }
        }
        Some(Run {
            bytes: self.sent..self.sent + octets,
            segment: first.len,
            type_of_service: first.type_of_service,
            records: count,
        })
    }

    /// Notes that a run is on its way (or given up).
    pub(crate) fn finish_run(&mut self, run: &Run) {
        let gone = run.records.min(self.complete.records);
        self.records.drain(..gone);
        self.complete.records -= gone;
        self.sent = run.bytes.end;
        if self.records.is_empty() {
            self.clear();
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Octets that [`Plain`] adds.
    pub(crate) const HEADER: usize = 4;

    /// No encryption.
    struct Plain;

    impl PacketSealer for Plain {
        fn headroom(&self) -> usize {
            HEADER
        }

        fn tailroom(&self) -> usize {
            0
        }

        fn sealed_len(&self, len: usize) -> usize {
            HEADER + len
        }

        fn seal(&mut self, _kind: FrameKind, _buffer: &mut [u8], len: usize) -> Result<usize, SealError> {
            Ok(HEADER + len)
        }
    }

    /// Complete records of payloads of these lengths.
    pub(crate) fn batch_of(lengths: &[usize]) -> Batch {
        let mut batch = Batch::new();
        for len in lengths {
            batch
                .seal(&mut Plain, FrameKind::Data, *len, None, |out| {
                    out.fill(*len as u8)
                })
                .unwrap();
        }
        batch.complete(&mut Plain);
        batch
    }

    fn runs(batch: &mut Batch, limit: usize) -> Vec<(usize, usize)> {
        let mut runs = Vec::new();
        while let Some(run) = batch.next_run(limit) {
            assert_eq!(run.bytes.len().div_ceil(run.segment), run.records);
            runs.push((run.segment, run.records));
            batch.finish_run(&run);
        }
        assert!(batch.is_empty());
        runs
    }

    #[test]
    fn a_run_ends_with_a_shorter_record() {
        let lengths = [100, 100, 50, 100, 200, 200, 10, 10];
        assert_eq!(
            runs(&mut batch_of(&lengths), 64),
            [(104, 3), (104, 1), (204, 3), (14, 1)]
        );
        assert_eq!(runs(&mut batch_of(&lengths), 1).len(), lengths.len());
    }

    #[test]
    fn a_run_has_limits() {
        assert_eq!(runs(&mut batch_of(&[10; 70]), 64), [(14, 64), (14, 6)]);
        assert_eq!(runs(&mut batch_of(&[10; 7]), 3), [(14, 3), (14, 3), (14, 1)]);
        assert_eq!(runs(&mut batch_of(&[16000; 5]), 64), [(16004, 4), (16004, 1)]);
    }

    #[test]
    fn control_frames_fit_after_data() {
        let mut batch = Batch::new();
        while !batch.is_full(&Plain, 1400) {
            batch
                .seal(&mut Plain, FrameKind::Data, 1400, None, |_| ())
                .unwrap();
        }
        assert!(
            batch
                .seal(&mut Plain, FrameKind::ProbeRequest, 1500, None, |_| ())
                .is_ok()
        );
        let mut refused = 0;
        for _ in 0..1000 {
            refused += usize::from(
                batch
                    .seal(&mut Plain, FrameKind::Keepalive, 0, None, |_| ())
                    .is_err(),
            );
        }
        assert!(refused > 0, "memory is bounded");
    }

    #[test]
    fn what_is_not_complete_is_not_sent() {
        let mut batch = batch_of(&[10, 10]);
        batch.seal(&mut Plain, FrameKind::Data, 10, None, |_| ()).unwrap();
        let run = batch.next_run(64).unwrap();
        assert_eq!((run.records, batch.unsent().len()), (2, 28));
        batch.finish_run(&run);
        assert!(batch.next_run(64).is_none() && !batch.is_empty());
        batch.complete(&mut Plain);
        assert_eq!(batch.next_run(64).unwrap().records, 1);
    }

    #[test]
    fn streams_are_sent_in_pieces() {
        let mut batch = batch_of(&[6, 6]);
        batch.append(b"update").unwrap();
        batch.complete(&mut Plain);
        batch.advance(10);
        assert_eq!(batch.unsent().len(), 16);
        batch.advance(16);
        assert!(batch.is_empty());
        assert_eq!(batch.next_run(64), None);
    }
}
