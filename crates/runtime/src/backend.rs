//! How a runtime's files get to `/spfs`, and what each way can do.

use std::fmt;

/// A way to mount a stack at `/spfs`.
///
/// The names are the ones that upstream's configuration files use; `FuseWithScratch` is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MountBackend {
    /// Kernel overlayfs over directories rendered from the layers.
    OverlayFsWithRenders,
    /// Kernel overlayfs over a read-only FUSE mount of the layers.
    OverlayFsWithFuse,
    /// FUSE alone, read-only.
    FuseOnly,
    /// FUSE with copy-on-write in user space: the default.
    FuseWithScratch,
    /// Upstream's service on Windows.
    WinFsp,
}

/// Something that a command asks of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// Changing files in the runtime.
    Edit,
    /// Committing what was changed.
    Commit,
}

/// Where the name of a backend was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendSource {
    /// A flag of the command: taken at its word.
    Flag,
    /// A configuration file or the environment, which a studio may keep for upstream's program.
    Configuration,
}

/// The backend to use, and what the user should hear about the choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackendChoice {
    /// The backend that will be used.
    pub backend: MountBackend,
    /// The configured backend that `backend` stands in for, when they differ.
    pub instead_of: Option<MountBackend>,
}

impl BackendChoice {
    /// Returns the one warning to show when another backend than the configured one is used.
    pub fn warning(&self) -> Option<String> {
        let asked = self.instead_of?;
        Some(format!(
            "the configured backend {asked} is not available in this program; using {}",
            self.backend
        ))
    }
}

/// A backend was asked for that is unknown, or that cannot do what was asked of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// No backend has this name.
    #[error("unknown file system backend {name:?}; use one of {}", known_names())]
    Unknown {
        /// The name as given.
        name: String,
    },
    /// The backend exists in upstream's program alone.
    #[error("the backend {backend} is not available in this program; use {}", .backend.instead())]
    NotAvailable {
        /// The backend that was asked for.
        backend: MountBackend,
    },
    /// The backend lacks a capability.
    #[error("the backend {backend} cannot {capability}; use {}", .backend.instead())]
    Lacks {
        /// The backend in use.
        backend: MountBackend,
        /// What it cannot do.
        capability: Capability,
    },
}

impl MountBackend {
    /// What is used when nothing else is said.
    pub const DEFAULT: Self = Self::FuseWithScratch;

    /// Every backend, in the order of the documentation.
    pub const ALL: [Self; 5] = [
        Self::FuseWithScratch,
        Self::FuseOnly,
        Self::OverlayFsWithRenders,
        Self::OverlayFsWithFuse,
        Self::WinFsp,
    ];

    /// Returns the name as written in configuration files and records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OverlayFsWithRenders => "OverlayFsWithRenders",
            Self::OverlayFsWithFuse => "OverlayFsWithFuse",
            Self::FuseOnly => "FuseOnly",
            Self::FuseWithScratch => "FuseWithScratch",
            Self::WinFsp => "WinFsp",
        }
    }

    /// Finds the backend of a name; case does not matter.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|backend| backend.name().eq_ignore_ascii_case(name))
    }

    /// Decides what serves a runtime for which `name` was asked for.
    ///
    /// Overlay backends from a configuration are served by [`MountBackend::FuseWithScratch`];
    /// asking for one by a flag is an error, since the user would get something else.
    pub fn choose(name: &str, source: BackendSource) -> Result<BackendChoice, BackendError> {
        let backend =
            Self::from_name(name).ok_or_else(|| BackendError::Unknown { name: name.to_owned() })?;
        match (backend, source) {
            (Self::FuseOnly | Self::FuseWithScratch, _) => {
                Ok(BackendChoice { backend, instead_of: None })
            }
            (
                Self::OverlayFsWithRenders | Self::OverlayFsWithFuse,
                BackendSource::Configuration,
            ) => Ok(BackendChoice { backend: Self::FuseWithScratch, instead_of: Some(backend) }),
            _ => Err(BackendError::NotAvailable { backend }),
        }
    }

    /// Whether a FUSE file system serves the files of the layers.
    pub const fn is_fuse(self) -> bool {
        matches!(self, Self::OverlayFsWithFuse | Self::FuseOnly | Self::FuseWithScratch)
    }

    /// Whether every layer must be in the local repository before the runtime starts.
    pub const fn requires_localization(self) -> bool {
        matches!(self, Self::OverlayFsWithRenders)
    }

    /// Whether files can be changed in a runtime of this backend.
    pub const fn supports_editable(self) -> bool {
        match self {
            Self::OverlayFsWithRenders | Self::OverlayFsWithFuse | Self::FuseWithScratch => true,
            Self::FuseOnly | Self::WinFsp => false,
        }
    }

    /// Whether changes can be committed in a runtime of this backend.
    pub const fn supports_commit(self) -> bool {
        self.supports_editable()
    }

    /// Refuses what this backend cannot do.
    pub fn require(self, capability: Capability) -> Result<(), BackendError> {
        let able = match capability {
            Capability::Edit => self.supports_editable(),
            Capability::Commit => self.supports_commit(),
        };
        if able { Ok(()) } else { Err(BackendError::Lacks { backend: self, capability }) }
    }

    /// The backend to use in place of one that does not fit.
    const fn instead(self) -> Self {
        match self {
            Self::FuseWithScratch => Self::FuseOnly,
            _ => Self::FuseWithScratch,
        }
    }
}

impl fmt::Display for MountBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Edit => "be edited",
            Self::Commit => "be committed",
        })
    }
}

fn known_names() -> String {
    MountBackend::ALL.map(MountBackend::name).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_from_a_configuration_is_served_by_fuse_with_a_warning() {
        let choice =
            MountBackend::choose("OverlayFsWithRenders", BackendSource::Configuration).unwrap();
        assert_eq!(choice.backend, MountBackend::FuseWithScratch);
        let warning = choice.warning().unwrap();
        assert!(warning.contains("OverlayFsWithRenders") && warning.contains("FuseWithScratch"));
    }

    #[test]
    fn an_overlay_from_a_flag_is_an_error_that_names_what_to_use() {
        let error = MountBackend::choose("overlayfswithfuse", BackendSource::Flag).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the backend OverlayFsWithFuse is not available in this program; use FuseWithScratch"
        );
    }

    #[test]
    fn a_backend_of_another_system_is_refused_from_everywhere() {
        for source in [BackendSource::Flag, BackendSource::Configuration] {
            let error = MountBackend::choose("WinFsp", source).unwrap_err();
            assert_eq!(error, BackendError::NotAvailable { backend: MountBackend::WinFsp });
        }
    }

    #[test]
    fn an_unknown_backend_is_refused_with_the_names_that_exist() {
        let text =
            MountBackend::choose("Overlay", BackendSource::Configuration).unwrap_err().to_string();
        assert!(text.contains("\"Overlay\"") && text.contains("FuseWithScratch, FuseOnly"));
    }

    #[test]
    fn nothing_read_only_claims_to_be_editable() {
        assert_eq!(
            MountBackend::FuseOnly.require(Capability::Edit).unwrap_err().to_string(),
            "the backend FuseOnly cannot be edited; use FuseWithScratch"
        );
        assert_eq!(MountBackend::FuseWithScratch.require(Capability::Edit), Ok(()));
        assert_eq!(MountBackend::FuseWithScratch.require(Capability::Commit), Ok(()));
    }

    #[test]
    fn what_is_served_never_needs_rendering() {
        for backend in MountBackend::ALL {
            if let Ok(choice) = MountBackend::choose(backend.name(), BackendSource::Configuration) {
                assert!(choice.backend.is_fuse());
                assert!(!choice.backend.requires_localization());
            }
        }
    }
}
