// Package power computes what three-phase PDUs draw: line currents of delta and wye loads,
// power, imbalance, headroom, what a feed must carry when the other fails, and energy from
// counters. Everything is a function of its arguments: no clock, no state beside the small
// structs that are passed.
//
// Conventions. Lines are 1, 2, 3 in phase sequence; V12 is at 0 degrees, V23 at -120, V31 at
// +120, V1N, V2N and V3N likewise. Arrays of three are by line (L1, L2, L3) or by branch
// (L12, L23, L31). Units are SI: V, A, W, var, VA, kWh for energy. A current that lags has a
// positive reactive power.
//
// Sources: NEMA MG 1 for imbalance by the mean, IEC 61000-4-30 for that by sequence.
package power
