defmodule Image.ZeroShot.Test.JSON do
  @moduledoc false

  # Enough of JSON for the fixtures: the oldest supported Erlang has no reader of its own.

  @spec read!(Path.t()) :: term()
  def read!(path), do: path |> File.read!() |> parse!()

  @spec parse!(String.t()) :: term()
  def parse!(text) do
    {value, rest} = text |> skip() |> value()
    "" = skip(rest)
    value
  end

  defp value("{" <> rest), do: members(skip(rest), %{})
  defp value("[" <> rest), do: items(skip(rest), [])
  defp value("\"" <> rest), do: string(rest, [])
  defp value("true" <> rest), do: {true, rest}
  defp value("false" <> rest), do: {false, rest}
  defp value("null" <> rest), do: {nil, rest}
  defp value(number), do: number(number)

  defp items("]" <> rest, done), do: {Enum.reverse(done), rest}
  defp items("," <> rest, done), do: items(skip(rest), done)

  defp items(text, done) do
    {item, rest} = value(text)
    items(skip(rest), [item | done])
  end

  defp members("}" <> rest, done), do: {done, rest}
  defp members("," <> rest, done), do: members(skip(rest), done)

  defp members("\"" <> text, done) do
    {key, rest} = string(text, [])
    ":" <> rest = skip(rest)
    {member, rest} = rest |> skip() |> value()
    members(skip(rest), Map.put(done, key, member))
  end

  @escapes %{?n => ?\n, ?t => ?\t, ?r => ?\r, ?b => ?\b, ?f => ?\f}

  defp string("\"" <> rest, done), do: {done |> Enum.reverse() |> List.to_string(), rest}

  defp string(<<"\\u", hex::binary-size(4), rest::binary>>, done) do
    case {String.to_integer(hex, 16), rest} do
      {high, <<"\\u", low::binary-size(4), rest::binary>>} when high in 0xD800..0xDBFF ->
        code = 0x10000 + (high - 0xD800) * 0x400 + String.to_integer(low, 16) - 0xDC00
        string(rest, [code | done])

      {code, rest} ->
        string(rest, [code | done])
    end
  end

  defp string(<<"\\", char, rest::binary>>, done),
    do: string(rest, [Map.get(@escapes, char, char) | done])

  defp string(<<char::utf8, rest::binary>>, done), do: string(rest, [char | done])

  defp number(text) do
    [digits] = Regex.run(~r/^-?\d+(\.\d+)?([eE][-+]?\d+)?/, text, capture: :first)
    rest = binary_part(text, byte_size(digits), byte_size(text) - byte_size(digits))

    case Integer.parse(digits) do
      {integer, ""} -> {integer, rest}
      _ -> {digits |> with_point() |> String.to_float(), rest}
    end
  end

  # "1e-3" is a number of JSON, but not of Elixir.
  defp with_point(digits) do
    if digits =~ ".", do: digits, else: String.replace(digits, ~r/[eE]/, ".0e")
  end

  defp skip(<<space, rest::binary>>) when space in [?\s, ?\n, ?\r, ?\t], do: skip(rest)
  defp skip(text), do: text
end
