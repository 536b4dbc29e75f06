"""The dot-product array: lanes, adder trees and the activation registers in front of them."""
