package operators

// Dues is how many places the queue of keys that are due has.
func (k *Keyed[S]) Dues() int { return len(k.due) }
