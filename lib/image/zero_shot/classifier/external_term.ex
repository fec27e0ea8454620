defmodule Image.ZeroShot.Classifier.ExternalTerm do
  @moduledoc false

  # How much memory a term in Erlang's external format will take, read only from its bytes.
  #
  # `:erlang.binary_to_term/2` allocates first: a list of small numbers takes eight to sixteen times
  # the bytes it is written in, an empty map forty. This walk allocates nothing, and stops at the
  # first tag that is not plain data, so that no process, reference or function is ever made.

  import Bitwise

  # The tags of https://www.erlang.org/doc/apps/erts/erl_ext_dist.html that are plain data.
  @version 131
  @small_integer 97
  @integer 98
  @float 70
  @atoms_of_long_names [100, 118]
  @atoms_of_short_names [115, 119]
  @small_tuple 104
  @large_tuple 105
  @empty_list 106
  @string 107
  @list 108
  @binary 109
  @bits 77
  @small_big 110
  @large_big 111
  @map 116

  @word 8

  @doc """
  The bytes that the term will take, at most about what the VM allocates for it.

  `:error` for what is not plain data or not one whole term.
  """
  @spec memory(binary()) :: {:ok, non_neg_integer()} | :error
  def memory(<<@version, rest::binary>>), do: walk(rest, 1, 0)
  def memory(_other), do: :error

  # `terms` are still to come; `words` is what those before them take. What a term takes in the list,
  # tuple or map around it was counted there.
  defp walk(<<>>, 0, words), do: {:ok, words * @word}
  defp walk(_more, 0, _words), do: :error

  # As many terms as there are bytes can still come, each of which takes one.
  defp walk(rest, terms, _words) when terms > byte_size(rest), do: :error

  defp walk(<<@small_integer, _::8, rest::binary>>, terms, words),
    do: walk(rest, terms - 1, words)

  defp walk(<<@integer, _::32, rest::binary>>, terms, words), do: walk(rest, terms - 1, words)
  defp walk(<<@empty_list, rest::binary>>, terms, words), do: walk(rest, terms - 1, words)
  defp walk(<<@float, _::64, rest::binary>>, terms, words), do: walk(rest, terms - 1, words + 2)

  defp walk(<<tag, size::16, rest::binary>>, terms, words) when tag in @atoms_of_long_names,
    do: skip(rest, size, terms, words)

  defp walk(<<tag, size::8, rest::binary>>, terms, words) when tag in @atoms_of_short_names,
    do: skip(rest, size, terms, words)

  defp walk(<<@small_tuple, count::8, rest::binary>>, terms, words),
    do: walk(rest, terms - 1 + count, words + count + 1)

  defp walk(<<@large_tuple, count::32, rest::binary>>, terms, words),
    do: walk(rest, terms - 1 + count, words + count + 1)

  defp walk(<<@string, size::16, rest::binary>>, terms, words),
    do: skip(rest, size, terms, words + 2 * size)

  defp walk(<<@list, count::32, rest::binary>>, terms, words),
    do: walk(rest, terms + count, words + 2 * count)

  defp walk(<<@map, count::32, rest::binary>>, terms, words),
    do: walk(rest, terms - 1 + 2 * count, words + 5 + 5 * count)

  defp walk(<<@binary, size::32, rest::binary>>, terms, words),
    do: skip(rest, size, terms, words + 8 + words(size))

  defp walk(<<@bits, size::32, _bits::8, rest::binary>>, terms, words),
    do: skip(rest, size, terms, words + 14 + words(size))

  defp walk(<<@small_big, size::8, _sign::8, rest::binary>>, terms, words),
    do: skip(rest, size, terms, words + 1 + words(size))

  defp walk(<<@large_big, size::32, _sign::8, rest::binary>>, terms, words),
    do: skip(rest, size, terms, words + 1 + words(size))

  defp walk(_other, _terms, _words), do: :error

  defp skip(rest, size, terms, words) when size <= byte_size(rest),
    do: rest |> binary_part(size, byte_size(rest) - size) |> walk(terms - 1, words)

  defp skip(_cut_short, _size, _terms, _words), do: :error

  defp words(bytes), do: (bytes + @word - 1) >>> 3
end
