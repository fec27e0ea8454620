defmodule Image.ZeroShot.Test.HEEx do
  @moduledoc false

  # Templates as functions of their assigns, for the part of HEEx that the guide uses: tags,
  # `{}` in attributes and in content, `:for`, `:if` and local components without content.

  @token ~r/<\/[\w.]+>|<[\w.]+(?:\{[^{}]*\}|[^<>{}])*>|\{[^{}]*\}|[^<{]+/
  @attribute ~r/([:\w-]+)(?:=\{([^{}]*)\}|="([^"]*)")?/

  @spec compile!(String.t()) :: Macro.t()
  def compile!(template) do
    tokens = @token |> Regex.scan(template) |> List.flatten()
    if Enum.join(tokens) != template, do: raise("not read to its end: #{template}")
    {quoted, []} = children(tokens, [])
    quoted
  end

  defp children(["</" <> _ = close | rest], done), do: {Enum.reverse(done), [close | rest]}
  defp children([], done), do: {Enum.reverse(done), []}

  defp children(["<" <> _ = open | rest], done) do
    [_, name, attributes] = Regex.run(~r/^<([\w.]+)\s*(.*?)\/?>$/s, open)
    attributes = attributes(attributes)

    {quoted, rest} =
      if String.ends_with?(open, "/>") or name in ~w(input br),
        do: {element(name, attributes, []), rest},
        else: closed(name, attributes, children(rest, []))

    children(rest, [directives(quoted, attributes) | done])
  end

  defp children(["{" <> _ = braces | rest], done),
    do: children(rest, [shown(expression(String.slice(braces, 1..-2//1))) | done])

  defp children([text | rest], done), do: children(rest, [text | done])

  defp closed(name, attributes, {content, [close | rest]}) do
    if close != "</#{name}>", do: raise("<#{name}> is closed by #{close}")
    {element(name, attributes, content), rest}
  end

  defp attributes(text) do
    for [_, name | value] <- Regex.scan(@attribute, text) do
      case value do
        [] -> {name, true}
        [code] -> {name, expression(code)}
        ["", literal] -> {name, literal}
      end
    end
  end

  defp element("." <> component, attributes, []) do
    fields = for {name, value} <- plain(attributes), do: {String.to_atom(name), value}
    {String.to_atom(component), [], [{:%{}, [], fields}]}
  end

  defp element(name, attributes, content) do
    shown = for {name, value} <- plain(attributes), do: attribute(name, value)
    ["<#{name}", shown, ">", content, "</#{name}>"]
  end

  defp attribute(name, true), do: " " <> name
  defp attribute(name, value) when is_binary(value), do: [" ", name, "=\"", value, "\""]

  defp attribute(name, value) do
    quote do
      case unquote(value) do
        no when no in [nil, false] -> ""
        true -> unquote(" #{name}")
        value -> [unquote(" #{name}=\""), to_string(value), "\""]
      end
    end
  end

  defp plain(attributes), do: Enum.reject(attributes, fn {name, _} -> name =~ ":" end)

  defp directives(quoted, attributes) do
    attributes = Map.new(attributes)

    quoted =
      case attributes[":if"] do
        nil -> quoted
        condition -> quote(do: if(unquote(condition), do: unquote(quoted), else: ""))
      end

    case attributes[":for"] do
      nil -> quoted
      generator -> quote(do: for(unquote(generator), do: unquote(quoted)))
    end
  end

  defp shown(quoted), do: quote(do: to_string(unquote(quoted)))

  # `@name` is an assign, and one that is missing an error.
  defp expression(code) do
    code
    |> Code.string_to_quoted!()
    |> Macro.prewalk(fn
      {:@, _, [{name, _, nil}]} -> quote(do: Map.fetch!(var!(assigns), unquote(name)))
      other -> other
    end)
  end
end
