use culvert_record::FrameKind;
use culvert_tls::{FrameOpener, FrameSealer, Framing};

use crate::wire::{FRAME_HEADER_LEN, frame_header, parse_frame_header};

/// Frames as the client reads them.
#[derive(Debug)]
pub struct ClientFraming;

/// Frames as the server reads them.
#[derive(Debug)]
pub struct ServerFraming;

/// Seals frames of the client.
pub type GpstClientSealer = FrameSealer<ClientFraming>;
/// Opens frames of the server.
pub type GpstClientOpener = FrameOpener<ClientFraming>;
/// Seals frames of the server.
pub type GpstServerSealer = FrameSealer<ServerFraming>;
/// Opens frames of the client.
pub type GpstServerOpener = FrameOpener<ServerFraming>;

/// There are packets and keepalives; probes and their answers are keepalives.
fn write_header(header: &mut [u8], kind: FrameKind, payload: &[u8]) -> Option<()> {
    let written = match kind {
        FrameKind::Data => frame_header(payload)?,
        FrameKind::Keepalive | FrameKind::ProbeRequest | FrameKind::ProbeResponse if payload.is_empty() => {
            frame_header(&[])?
        }
        _ => return None,
    };
    header.copy_from_slice(&written);
    Some(())
}

fn parse(header: &[u8], keepalive: FrameKind) -> Option<(FrameKind, usize)> {
    let (is_packet, len) = parse_frame_header(header)?;
    let kind = if is_packet { FrameKind::Data } else { keepalive };
    Some((kind, len))
}

impl Framing for ClientFraming {
    const HEADER_LEN: usize = FRAME_HEADER_LEN;

    fn write_header(header: &mut [u8], kind: FrameKind, payload: &[u8]) -> Option<()> {
        write_header(header, kind, payload)
    }

    /// The server's keepalives are echoes of ours; one that it sends by itself needs no answer
    /// either.
    fn parse_header(header: &[u8]) -> Option<(FrameKind, usize)> {
        parse(header, FrameKind::ProbeResponse)
    }
}

impl Framing for ServerFraming {
    const HEADER_LEN: usize = FRAME_HEADER_LEN;

    fn write_header(header: &mut [u8], kind: FrameKind, payload: &[u8]) -> Option<()> {
        write_header(header, kind, payload)
    }

    /// The client's keepalives are to be echoed.
    fn parse_header(header: &[u8]) -> Option<(FrameKind, usize)> {
        let (kind, len) = parse(header, FrameKind::ProbeRequest)?;
        // A payload that keepalives do not have could not be echoed.
        if kind == FrameKind::ProbeRequest && len > 0 {
            return Some((FrameKind::Keepalive, len));
        }
        Some((kind, len))
    }
}
