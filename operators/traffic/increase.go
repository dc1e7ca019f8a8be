package traffic

// Point is a sample of a counter as Prometheus has it.
type Point struct {
	At    int64
	Value float64
}

// Increase is that of PromQL over (start, end]: what the counter rose by, resets taken for
// falls to 0, drawn out to the ends of the range where samples are near them. It wants two
// points in the range. Points are in the order of their times.
func Increase(points []Point, start, end int64) (float64, bool) {
	var in []Point
	for _, p := range points {
		if p.At > start && p.At <= end {
			in = append(in, p)
		}
	}
	if len(in) < 2 {
		return 0, false
	}
	first, last := in[0], in[len(in)-1]
	var sum float64
	for i := 1; i < len(in); i++ {
		if in[i].Value < in[i-1].Value {
			sum += in[i].Value
		} else {
			sum += in[i].Value - in[i-1].Value
		}
	}
	sampled := seconds(last.At - first.At)
	if sampled == 0 {
		return 0, false
	}
	average := sampled / float64(len(in)-1)
	reach := func(gap float64) float64 {
		if gap >= 1.1*average {
			return average / 2
		}
		return gap
	}
	left := reach(seconds(first.At - start))
	if sum > 0 && first.Value >= 0 { // not beyond where the counter was 0
		left = min(left, sampled*first.Value/sum)
	}
	return sum * (sampled + left + reach(seconds(end-last.At))) / sampled, true
}
