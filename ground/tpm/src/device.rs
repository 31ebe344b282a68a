//! The way to the TPM.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::TpmError;

/// The kernel's device with a resource manager.
const DEVICE: &str = "/dev/tpmrm0";
/// Command port of a simulator.
const PORT: u16 = 2321;
/// More octets are no response.
const RESPONSE_MAX: usize = 4096;
/// A TPM needs seconds for a key at most.
const SIMULATOR_SILENCE: Duration = Duration::from_secs(30);
/// MS_SIM_TPM_SEND_COMMAND of the simulators' protocol.
const SEND_COMMAND: u32 = 8;

/// Where the TPM is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interface {
    /// A device of the kernel.
    Device(PathBuf),
    /// A simulator that speaks Microsoft's protocol (`swtpm`, `tpm_server`).
    Simulator {
        /// Host name or address.
        host: String,
        /// Command port.
        port: u16,
    },
}

impl Interface {
    /// What the environment says: with `TPM_INTERFACE_TYPE=socsim` a simulator at `TPM_SERVER_NAME`
    /// (localhost), `TPM_COMMAND_PORT` (2321); else the device `TPM_DEVICE` (`/dev/tpmrm0`).
    pub fn of_environment(variable: impl Fn(&str) -> Option<String>) -> Self {
        let given = |name: &str| variable(name).filter(|value| !value.is_empty());
        if given("TPM_INTERFACE_TYPE").as_deref() == Some("socsim") {
            return Self::Simulator {
                host: given("TPM_SERVER_NAME").unwrap_or_else(|| "localhost".into()),
                port: given("TPM_COMMAND_PORT")
                    .and_then(|port| port.parse().ok())
                    .unwrap_or(PORT),
            };
        }
        Self::Device(given("TPM_DEVICE").map_or_else(|| DEVICE.into(), PathBuf::from))
    }

    pub(crate) fn open(&self) -> Result<Box<dyn Transport>, TpmError> {
        let failed = |cause| self.failed(cause);
        Ok(match self {
            Self::Device(path) => {
                let file = File::options().read(true).write(true).open(path);
                Box::new(Device(file.map_err(failed)?))
            }
            Self::Simulator { host, port } => {
                let socket = TcpStream::connect((host.as_str(), *port)).map_err(failed)?;
                socket.set_nodelay(true).map_err(failed)?;
                socket.set_read_timeout(Some(SIMULATOR_SILENCE)).map_err(failed)?;
                Box::new(Simulator(socket))
            }
        })
    }

    pub(crate) fn failed(&self, cause: io::Error) -> TpmError {
        let place = match self {
            Self::Device(path) => path.display().to_string(),
            Self::Simulator { host, port } => format!("{host}:{port}"),
        };
        TpmError::Device { place, cause }
    }
}

/// Carries one command and its response at a time.
pub trait Transport {
    /// Sends a command and waits for the response.
    ///
    /// # Errors
    /// Either fails.
    fn exchange(&mut self, command: &[u8]) -> io::Result<Zeroizing<Vec<u8>>>;
}

struct Device(File);

impl Transport for Device {
    fn exchange(&mut self, command: &[u8]) -> io::Result<Zeroizing<Vec<u8>>> {
        // The driver takes a command in one write and gives a response in one read.
        self.0.write_all(command)?;
        let mut response = Zeroizing::new(vec![0; RESPONSE_MAX]);
        let len = self.0.read(&mut response)?;
        response.truncate(len);
        Ok(response)
    }
}

struct Simulator(TcpStream);

impl Simulator {
    fn number(&mut self) -> io::Result<u32> {
        let mut octets = [0; 4];
        self.0.read_exact(&mut octets)?;
        Ok(u32::from_be_bytes(octets))
    }
}

impl Transport for Simulator {
    fn exchange(&mut self, command: &[u8]) -> io::Result<Zeroizing<Vec<u8>>> {
        const LOCALITY: u8 = 0;
        let len = u32::try_from(command.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut framed = Zeroizing::new(Vec::with_capacity(9 + command.len()));
        framed.extend(SEND_COMMAND.to_be_bytes());
        framed.push(LOCALITY);
        framed.extend(len.to_be_bytes());
        framed.extend_from_slice(command);
        self.0.write_all(&framed)?;
        let len = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        if len > RESPONSE_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut response = Zeroizing::new(vec![0; len]);
        self.0.read_exact(&mut response)?;
        let _acknowledgement = self.number()?;
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_chooses() {
        let of = |variables: &[(&str, &str)]| {
            Interface::of_environment(|name| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(of(&[]), Interface::Device("/dev/tpmrm0".into()));
        assert_eq!(
            of(&[("TPM_DEVICE", "/dev/tpm1")]),
            Interface::Device("/dev/tpm1".into())
        );
        let socsim = ("TPM_INTERFACE_TYPE", "socsim");
        let simulator = |port| Interface::Simulator {
            host: "localhost".into(),
            port,
        };
        assert_eq!(of(&[socsim]), simulator(2321));
        assert_eq!(of(&[socsim, ("TPM_COMMAND_PORT", "4000")]), simulator(4000));
    }
}
