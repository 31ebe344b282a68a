use culvert_record::FrameKind;
use culvert_tls::{FrameOpener, FrameSealer, Framing};

use crate::wire::{FRAME_HEADER_LEN, frame_header, parse_frame_header};

/// Sends frames: each in exactly one TLS record (`specs/cstp-dtls.md` §1).
pub type CstpSealer = FrameSealer<Cstp>;
/// Receives frames.
pub type CstpOpener = FrameOpener<Cstp>;

/// The header of CSTP frames (`specs/cstp-dtls.md` §4).
#[derive(Debug)]
pub struct Cstp;

impl Framing for Cstp {
    const HEADER_LEN: usize = FRAME_HEADER_LEN;

    fn write_header(header: &mut [u8], kind: FrameKind, payload: &[u8]) -> Option<()> {
        header.copy_from_slice(&frame_header(kind, payload.len())?);
        Some(())
    }

    fn parse_header(header: &[u8]) -> Option<(FrameKind, usize)> {
        parse_frame_header(header.first_chunk()?).ok()
    }
}
