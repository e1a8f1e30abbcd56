//! Takes requests to the ready endpoints of a service
