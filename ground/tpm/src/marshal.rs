//! Structures of the TPM: big-endian numbers and sized octets.

use crate::TpmError;

/// Puts structures together.
#[derive(Debug, Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn u8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    pub(crate) fn u16(&mut self, value: u16) -> &mut Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn octets(&mut self, octets: &[u8]) -> &mut Self {
        self.0.extend_from_slice(octets);
        self
    }

    /// A TPM2B: the length in two octets comes first. What this crate sends is never longer.
    pub(crate) fn sized(&mut self, octets: &[u8]) -> &mut Self {
        let len = u16::try_from(octets.len()).unwrap_or(u16::MAX);
        self.u16(len)
            .octets(octets.get(..usize::from(len)).unwrap_or_default())
    }
}

/// Takes structures apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(octets: &'a [u8]) -> Self {
        Self(octets)
    }

    pub(crate) fn octets(&mut self, len: usize) -> Result<&'a [u8], TpmError> {
        let (octets, rest) = self.0.split_at_checked(len).ok_or(TpmError::Answer)?;
        self.0 = rest;
        Ok(octets)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, TpmError> {
        let (octets, rest) = self.0.split_first_chunk().ok_or(TpmError::Answer)?;
        self.0 = rest;
        Ok(u16::from_be_bytes(*octets))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, TpmError> {
        let (octets, rest) = self.0.split_first_chunk().ok_or(TpmError::Answer)?;
        self.0 = rest;
        Ok(u32::from_be_bytes(*octets))
    }

    /// The content of a TPM2B.
    pub(crate) fn sized(&mut self) -> Result<&'a [u8], TpmError> {
        let len = self.u16()?;
        self.octets(len.into())
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }
}
