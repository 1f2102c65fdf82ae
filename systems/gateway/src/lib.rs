//! The API gateway and load balancer (SD7).
