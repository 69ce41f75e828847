//! What the database tells about itself (layer L5).

use std::ops::{Bound, ControlFlow};
use std::sync::atomic::{AtomicU64, Ordering};

use super::state::{Engine, lock};
use crate::db::{Health, Stats};
