//! Reading messages back whose content is not in memory.

use super::Hub;
use crate::io::driver::Driver;
use crate::queue::Taken;
use std::rc::Rc;

impl<D: Driver> Hub<D> {
    /// Brings a message into memory; its handle. `None`: it cannot be read now.
    pub(super) async fn load(self: &Rc<Self>, taken: Taken) -> Option<u32> {
        let _ = taken;
        None
    }
}
