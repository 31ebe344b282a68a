use std::collections::VecDeque;
use std::io::{self, Read, Write};

use crate::records::{BODY_MAX, HEADER_LEN};

/// What OpenSSL takes for its socket: octets received but not yet read, and octets to send. It reads whole
/// records only: what it has read of another one would be missing when its connection is taken over.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    pub(crate) input: VecDeque<u8>,
    pub(crate) output: Vec<u8>,
    /// Octets that it has not read yet of the record that it has begun.
    begun: usize,
}

impl Pipe {
    /// Length of the record at the start of the input once all of it is there. What is no record is
    /// OpenSSL's to judge.
    fn whole_record(&self) -> Option<usize> {
        let mut header = self.input.iter().copied();
        let (_, major, _) = (header.next()?, header.next()?, header.next()?);
        let body = usize::from(u16::from_be_bytes([header.next()?, header.next()?]));
        let record = HEADER_LEN + body;
        if major != 3 || body > BODY_MAX {
            return Some(self.input.len());
        }
        (self.input.len() >= record).then_some(record)
    }
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.begun == 0 {
            self.begun = self.whole_record().ok_or(io::ErrorKind::WouldBlock)?;
        }
        let room = self.begun.min(buffer.len());
        let read = self.input.read(buffer.get_mut(..room).unwrap_or_default())?;
        self.begun -= read;
        Ok(read)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
