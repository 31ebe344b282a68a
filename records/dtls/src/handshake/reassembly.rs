//! Handshake messages from their fragments, in the order of message_seq (RFC 6347 §4.2.2-4.2.3).

use std::collections::VecDeque;
use std::ops::Range;

use super::Reader;

/// Octets of a handshake message's header.
pub(crate) const MESSAGE_HEADER_LEN: usize = 12;
/// Longest message accepted. A NewSessionTicket is the longest that a peer has reason to send.
const MAX_MESSAGE: usize = 1 << 14;
/// Messages ahead of the awaited one that are kept.
const WINDOW: usize = 6;
/// Separate pieces of one message that are kept.
const MAX_PIECES: usize = 32;

/// One fragment of a handshake message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fragment<'a> {
    pub(crate) kind: u8,
    pub(crate) message_seq: u16,
    /// Octets of the whole message.
    length: usize,
    offset: usize,
    content: &'a [u8],
}

impl<'a> Fragment<'a> {
    /// The next fragment of a record. `None` when it does not fit its message or the record.
    pub(crate) fn parse(reader: &mut Reader<'a>) -> Option<Self> {
        let kind = reader.u8()?;
        let length = reader.u24()?;
        let message_seq = reader.u16()?;
        let offset = reader.u24()?;
        let fragment_length = reader.u24()?;
        let content = reader.take(fragment_length)?;
        (offset + fragment_length <= length).then_some(Self {
            kind,
            message_seq,
            length,
            offset,
            content,
        })
    }

    /// True for the fragment with the message's end.
    pub(crate) fn is_last(&self) -> bool {
        self.offset + self.content.len() == self.length
    }
}

/// A whole handshake message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) kind: u8,
    pub(crate) message_seq: u16,
    pub(crate) body: Vec<u8>,
}

/// Collects fragments; memory is bounded by [`WINDOW`] messages of [`MAX_MESSAGE`] octets.
#[derive(Debug, Default)]
pub(crate) struct Reassembly {
    /// message_seq of the awaited message.
    next: u16,
    /// message_seq of the message that was taken last.
    last: Option<u16>,
    /// The awaited message and those after it.
    partial: VecDeque<Option<Partial>>,
}

#[derive(Debug)]
struct Partial {
    kind: u8,
    body: Vec<u8>,
    /// Octets that have arrived: sorted, disjoint, not touching.
    pieces: Vec<Range<usize>>,
}

impl Reassembly {
    /// message_seq of the message that was taken last.
    pub(crate) fn last_seq(&self) -> Option<u16> {
        self.last
    }

    /// The awaited message is one that does not come as a handshake message.
    pub(crate) fn skip(&mut self) {
        self.partial.pop_front();
        self.next = self.next.saturating_add(1);
    }

    /// Takes a fragment; those that are old, too far ahead or contradict others are ignored.
    pub(crate) fn insert(&mut self, fragment: &Fragment<'_>) {
        let Some(ahead) = fragment.message_seq.checked_sub(self.next).map(usize::from) else {
            return;
        };
        if ahead >= WINDOW || fragment.length > MAX_MESSAGE {
            return;
        }
        if self.partial.len() <= ahead {
            self.partial.resize_with(ahead + 1, || None);
        }
        if let Some(slot) = self.partial.get_mut(ahead) {
            slot.get_or_insert_with(|| Partial::new(fragment))
                .insert(fragment);
        }
    }

    /// The awaited message, if it is complete.
    pub(crate) fn pop(&mut self) -> Option<Message> {
        if !self.partial.front()?.as_ref()?.is_complete() {
            return None;
        }
        let Partial { kind, body, .. } = self.partial.pop_front()??;
        let message_seq = self.next;
        self.last = Some(message_seq);
        self.next = self.next.checked_add(1)?;
        Some(Message {
            kind,
            message_seq,
            body,
        })
    }
}

impl Partial {
    fn new(fragment: &Fragment<'_>) -> Self {
        Self {
            kind: fragment.kind,
            body: vec![0; fragment.length],
            pieces: Vec::new(),
        }
    }

    fn insert(&mut self, fragment: &Fragment<'_>) {
        if fragment.kind != self.kind || fragment.length != self.body.len() || self.pieces.len() >= MAX_PIECES
        {
            return;
        }
        let mut piece = fragment.offset..fragment.offset + fragment.content.len();
        let Some(room) = self.body.get_mut(piece.clone()) else {
            return;
        };
        room.copy_from_slice(fragment.content);
        self.pieces.retain(|other| {
            let apart = other.end < piece.start || piece.end < other.start;
            if !apart {
                piece = piece.start.min(other.start)..piece.end.max(other.end);
            }
            apart
        });
        let at = self.pieces.partition_point(|other| other.end < piece.start);
        self.pieces.insert(at, piece);
    }

    fn is_complete(&self) -> bool {
        matches!(self.pieces.as_slice(), [piece] if piece.start == 0 && piece.end == self.body.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Messages survive being cut, doubled and shuffled.
        #[test]
        fn puts_messages_together(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..=WINDOW),
            cuts in prop::collection::vec(1usize..20, 1..10),
            order in any::<prop::sample::Index>(),
        ) {
            let mut fragments = Vec::new();
            for (message_seq, body) in bodies.iter().enumerate() {
                let mut offset = 0;
                let mut cuts = cuts.iter().cycle();
                loop {
                    let len = (*cuts.next().unwrap()).min(body.len() - offset);
                    let content = &body[offset..offset + len];
                    fragments.push(Fragment { kind: 1, message_seq: message_seq as u16, length: body.len(), offset, content });
                    offset += len;
                    if offset == body.len() {
                        break;
                    }
                }
            }
            let split = order.index(fragments.len());
            let mut reassembly = Reassembly::default();
            for fragment in fragments[split..].iter().chain(fragments[..split].iter().rev()).chain(&fragments) {
                reassembly.insert(fragment);
            }
            let messages: Vec<_> = std::iter::from_fn(|| reassembly.pop()).map(|message| message.body).collect();
            prop_assert_eq!(messages, bodies);
        }

        #[test]
        fn junk_never_panics(records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..40)) {
            let mut reassembly = Reassembly::default();
            for record in &records {
                let mut reader = Reader::new(record);
                while let Some(fragment) = Fragment::parse(&mut reader) {
                    reassembly.insert(&fragment);
                    reassembly.pop();
                }
            }
            prop_assert!(reassembly.partial.len() <= WINDOW);
        }
    }

    /// A piece that bridges others may come first in `retain`'s order or last.
    #[test]
    fn bridging_pieces_merge() {
        let body: Vec<u8> = (0..30).collect();
        let piece = |range: Range<usize>| Fragment {
            kind: 1,
            message_seq: 0,
            length: 30,
            offset: range.start,
            content: &body[range],
        };
        let mut reassembly = Reassembly::default();
        for range in [20..25, 0..5, 10..12, 3..22] {
            reassembly.insert(&piece(range));
            assert_eq!(reassembly.pop(), None);
        }
        reassembly.insert(&piece(25..30));
        assert_eq!(
            reassembly.pop(),
            Some(Message {
                kind: 1,
                message_seq: 0,
                body
            })
        );
    }
}
