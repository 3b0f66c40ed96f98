//! Locks with a rank.

use std::ops::{Deref, DerefMut};

use super::held::Held;
use super::raw;

/// A mutual exclusion with its place in the order of locks.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T, const RANK: u8>(raw::Mutex<T>);

/// A reader-writer lock with its place in the order of locks.
#[derive(Debug, Default)]
pub(crate) struct RwLock<T, const RANK: u8>(raw::RwLock<T>);

impl<T, const RANK: u8> Mutex<T, RANK> {
    pub(crate) fn new(value: T) -> Self {
        Self(raw::Mutex::new(value))
    }

    #[track_caller]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        let held = Held::new(RANK);
        MutexGuard { guard: self.0.lock(), _held: held }
    }

    pub(crate) fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

impl<T, const RANK: u8> RwLock<T, RANK> {
    pub(crate) fn new(value: T) -> Self {
        Self(raw::RwLock::new(value))
    }

    #[track_caller]
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        let held = Held::new(RANK);
        RwLockReadGuard { guard: self.0.read(), _held: held }
    }

    /// `None` when that would wait.
    #[track_caller]
    pub(crate) fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
        let held = Held::new(RANK);
        let guard = self.0.try_read()?;
        Some(RwLockReadGuard { guard, _held: held })
    }

    #[track_caller]
    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
        let held = Held::new(RANK);
        RwLockWriteGuard { guard: self.0.write(), _held: held }
    }

    #[track_caller]
    pub(crate) fn upgradable_read(&self) -> RwLockUpgradableReadGuard<'_, T> {
        let held = Held::new(RANK);
        RwLockUpgradableReadGuard { guard: self.0.upgradable_read(), held }
    }
}

/// Holds a [`Mutex`].
#[derive(Debug)]
pub(crate) struct MutexGuard<'a, T> {
    guard: raw::MutexGuard<'a, T>,
    _held: Held,
}

/// Holds an [`RwLock`] together with other readers.
#[derive(Debug)]
pub(crate) struct RwLockReadGuard<'a, T> {
    guard: raw::RwLockReadGuard<'a, T>,
    _held: Held,
}

/// Holds an [`RwLock`] alone.
#[derive(Debug)]
pub(crate) struct RwLockWriteGuard<'a, T> {
    guard: raw::RwLockWriteGuard<'a, T>,
    _held: Held,
}

/// Holds an [`RwLock`] together with readers, and may become its only holder.
#[derive(Debug)]
pub(crate) struct RwLockUpgradableReadGuard<'a, T> {
    guard: raw::RwLockUpgradableReadGuard<'a, T>,
    held: Held,
}

impl<'a, T> RwLockUpgradableReadGuard<'a, T> {
    /// Waits for the readers; no writer comes between.
    pub(crate) fn upgrade(self) -> RwLockWriteGuard<'a, T> {
        let guard = raw::RwLockUpgradableReadGuard::upgrade(self.guard);
        RwLockWriteGuard { guard, _held: self.held }
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

impl<T> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> Deref for RwLockUpgradableReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}
