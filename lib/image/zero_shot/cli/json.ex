defmodule Image.ZeroShot.CLI.JSON do
  @moduledoc false

  # Writes JSON, in ASCII only, which no encoding on the way changes. The oldest supported Erlang has no writer.

  @typedoc "What can be written. Keys of maps are atoms or strings."
  @type value :: nil | boolean() | number() | atom() | String.t() | [value()] | map()

  @spec encode(value()) :: iodata()
  def encode(value) when value in [nil, true, false],
    do: if(value == nil, do: "null", else: Atom.to_string(value))

  def encode(value) when is_integer(value), do: Integer.to_string(value)
  def encode(value) when is_float(value), do: Float.to_string(value)
  def encode(value) when is_atom(value), do: value |> Atom.to_string() |> string()
  def encode(value) when is_binary(value), do: string(value)

  def encode(value) when is_list(value),
    do: [?[, value |> Enum.map(&encode/1) |> Enum.intersperse(?,), ?]]

  def encode(%{} = value) do
    members = for {key, member} <- value, do: [key |> to_string() |> string(), ?:, encode(member)]
    [?{, Enum.intersperse(members, ?,), ?}]
  end

  @spec string(String.t()) :: iodata()
  def string(text), do: [?", escape(text, []), ?"]

  defp escape("", done), do: Enum.reverse(done)
  defp escape(<<?", rest::binary>>, done), do: escape(rest, ["\\\"" | done])
  defp escape(<<?\\, rest::binary>>, done), do: escape(rest, ["\\\\" | done])
  defp escape(<<?\n, rest::binary>>, done), do: escape(rest, ["\\n" | done])

  defp escape(<<char, rest::binary>>, done) when char in 0x20..0x7E,
    do: escape(rest, [char | done])

  defp escape(<<char::utf8, rest::binary>>, done) when char < 0x10000,
    do: escape(rest, [unit(char) | done])

  defp escape(<<char::utf8, rest::binary>>, done) do
    above = char - 0x10000
    escape(rest, [unit(0xDC00 + rem(above, 0x400)), unit(0xD800 + div(above, 0x400)) | done])
  end

  defp escape(<<_no_text, rest::binary>>, done), do: escape(rest, [unit(0xFFFD) | done])

  defp unit(number),
    do: ["\\u", number |> Integer.to_string(16) |> String.pad_leading(4, "0")]
end
