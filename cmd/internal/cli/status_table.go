package cli

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// table is text in columns as wide as their content. A column whose heading begins with ">" stands to the right.
type table struct {
	right []bool
	rows  [][]string
}

func newTable(headings ...string) *table {
	t := &table{right: make([]bool, len(headings))}
	head := make([]string, len(headings))
	for i, h := range headings {
		head[i], t.right[i] = strings.CutPrefix(h, ">")
	}
	t.rows = append(t.rows, head)
	return t
}

// row adds a row. One with a single cell stands across the columns.
func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

// dropColumn takes a column out.
func (t *table) dropColumn(col int) {
	t.right = slices.Delete(t.right, col, col+1)
	for i, row := range t.rows {
		if len(row) > 1 {
			t.rows[i] = slices.Delete(row, col, col+1)
		}
	}
}

// dropEmpty takes out the columns that have nothing below their heading; one stays in any case.
func (t *table) dropEmpty() {
	for col := len(t.right) - 1; col >= 0 && len(t.right) > 1; col-- {
		if len(t.rows) > 1 && !slices.ContainsFunc(t.rows[1:], func(row []string) bool { return len(row) > 1 && row[col] != "" }) {
			t.dropColumn(col)
		}
	}
}

// write prints the table without blanks at the ends of lines.
func (t *table) write(w io.Writer) error {
	width := make([]int, len(t.right))
	for _, row := range t.rows {
		if len(row) == 1 && len(t.right) > 1 {
			continue
		}
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	out := bufio.NewWriter(w)
	for _, row := range t.rows {
		var line strings.Builder
		for i, cell := range row {
			pad := strings.Repeat(" ", max(0, width[i]-utf8.RuneCountInString(cell)))
			if i > 0 {
				line.WriteString("  ")
			}
			if t.right[i] && len(row) > 1 {
				line.WriteString(pad + cell)
			} else {
				line.WriteString(cell + pad)
			}
		}
		fmt.Fprintln(out, strings.TrimRight(line.String(), " "))
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("printing: %w", err)
	}
	return nil
}
