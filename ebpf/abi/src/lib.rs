//! Records and map layouts shared by the TC program and user space.
#![no_std]
